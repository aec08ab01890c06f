#!/usr/bin/env bash
# The Python that interop/ and interop/proxies need, in target/interop/venv; made
# anew only when something has changed. Prints where it is.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${CARGO_TARGET_DIR:-$(dirname "$here")/target}/interop/venv

fail() {
    printf 'interop: %s\n' "$*" >&2
    exit 1
}

command -v python3 >/dev/null || fail "python3 is missing; on Debian: apt-get install python3 python3-venv"
# Debian ships venv without ensurepip, which it needs, until python3-venv is installed.
python3 -c 'import ensurepip, venv' 2>/dev/null || fail "the venv module of python3 is missing; on Debian: apt-get install python3-venv"

# What the environment was made from, written last: one that was interrupted
# half-way does not count.
stamp=$(python3 -c 'import sys; print(sys.version)' && cksum <"$here/requirements.txt")
if [[ ! -x $venv/bin/python || $(cat "$venv/stamp" 2>/dev/null) != "$stamp" ]]; then
    python3 -m venv --clear "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >&2
    printf '%s\n' "$stamp" >"$venv/stamp"
fi
printf '%s\n' "$venv"

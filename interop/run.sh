#!/usr/bin/env bash
# Calls a server with the Python clients and tests of interop/python, and with
# those of interop/node.
#
#   cargo build --workspace && interop/run.sh
#
# Arguments go to Python's unittest alone: -v, or the name of a test.
# FOURMODES_SERVER_BIN and FOURMODES_CLIENT_BIN name others than those that cargo has
# built. Whatever is made here goes to target/interop.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
target=${CARGO_TARGET_DIR:-$root/target}
gen=$target/interop/gen
node=$target/interop/node
client=$(realpath "${FOURMODES_CLIENT_BIN:-$target/debug/fourmodes}")
server=$(realpath "${FOURMODES_SERVER_BIN:-$target/debug/fourmodes-server}")

fail() {
    printf 'interop: %s\n' "$*" >&2
    exit 1
}

[[ -f $client && -x $client ]] || fail "there is no client at $client; build it (cargo build -p client) or set FOURMODES_CLIENT_BIN"
[[ -f $server && -x $server ]] || fail "there is no server at $server; build it (cargo build -p server) or set FOURMODES_SERVER_BIN"
command -v go >/dev/null || fail "go is missing; on Debian: apt-get install golang-go"
command -v npm >/dev/null || fail "npm is missing; on Debian: apt-get install nodejs npm"

chromium=$(command -v "${CHROMIUM:-chromium}") || fail "chromium is missing; on Debian: apt-get install chromium (or set CHROMIUM to a program)"

venv=$(bash "$here/venv.sh")

# From scratch, so that nothing is left of a proto that is gone.
rm -rf -- "$gen"
mkdir -p "$gen"
generate() {
    "$venv/bin/python" -m grpc_tools.protoc --proto_path="$1" --python_out="$gen" --grpc_python_out="$gen" "${@:2}"
}
# Flat, as in a tutorial: `import greeter_pb2`.
generate "$root/proto/tutorial" "$root"/proto/tutorial/*.proto
generate "$root/proto" "$root"/proto/fourmodes/v1/*.proto "$root"/proto/google/bytestream/*.proto
# Generated, these would be a package with the name of grpcio's own.
"$venv/bin/python" -m grpc_tools.protoc --proto_path="$root/proto" --include_imports \
    --descriptor_set_out="$gen/standard.bin" "$root"/proto/grpc/testing/*.proto

"$venv/bin/python" -m grpc_tools.protoc --proto_path="$here/call" --descriptor_set_out="$gen/call.bin" "$here"/call/*.proto

(cd "$here/go-grpc" && go build -o "$target/interop/call-go-server" .)
FOURMODES_CLIENT_BIN=$client FOURMODES_CALL_DESCRIPTORS=$gen/call.bin \
    FOURMODES_CALL_GO_SERVER=$target/interop/call-go-server "$venv/bin/python" "$here/python/test_call.py"
FOURMODES_SERVER_BIN=$server FOURMODES_CLIENT_BIN=$client FOURMODES_DESCRIPTORS=$gen/standard.bin \
    PYTHONPATH=$gen "$venv/bin/python" "$here/python/test_interop.py" "$@"
if (($#)); then exit; fi

mkdir -p "$node"
cp -- "$here"/node/* "$node"
PYTHONPATH=$gen "$venv/bin/python" "$here/python/descriptors.py" "$node/descriptors.bin"
# Again only for other packages than those that are there.
if ! cmp --silent "$node/package-lock.json" "$node/installed"; then
    (cd "$node" && npm ci --silent --no-audit --no-fund)
    cp -- "$node/package-lock.json" "$node/installed"
fi
cd "$node"
FOURMODES_SERVER_BIN=$server FOURMODES_CLIENT_BIN=$client FOURMODES_DESCRIPTORS=descriptors.bin \
    CHROMIUM=$chromium exec node --test

#!/usr/bin/env bash
# Go's net/rpc against ours, in both directions, and the bytes of gob.
#
#   cargo build --workspace --example math && interop/go/run.sh
#
# Whatever is made here goes to target/interop.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
target=${CARGO_TARGET_DIR:-$root/target}
math=$target/debug/examples/math
go=$target/interop/go

fail() {
    printf 'interop: %s\n' "$*" >&2
    exit 1
}

command -v go >/dev/null || fail "go is missing; on Debian: apt-get install golang-go"
[[ -x $math ]] || fail "there is no $math; build it (cargo build --workspace --example math)"

mkdir -p "$go"
(cd "$here" && go build -o "$go/" ./bytes ./client ./server)

servers=()
trap 'for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done' EXIT
# Starts a server, and leaves in `address` the first line that it prints.
start() {
    local out
    out=$(mktemp -u)
    mkfifo "$out"
    "$@" >"$out" &
    servers+=("$!")
    read -r address <"$out"
    rm "$out"
}

# What Go makes of the values is what the Rust tests read, and what they write Go reads.
"$go/bytes" write | cmp - "$root/crates/net-rpc/tests/it/from_go.txt" ||
    fail "from_go.txt is not what this Go writes: interop/go/bytes write makes it anew"
"$go/bytes" check "$root/crates/net-rpc/tests/it/from_rust.txt"

start "$math"
for transport in tcp http json; do
    "$go/client" "$transport" "$address" "" overflow
done
# The same client at Go's own server: so the texts that it wants are Go's.
for transport in tcp http json; do
    start "$go/server" "$transport"
    "$go/client" "$transport" "$address" main.
    product=$("$math" "$transport" "$address" 6 -7)
    [[ $product = -42 ]] || fail "6 times -7 at Go's server over $transport: $product"
done
echo "ok Rust client, Go server"

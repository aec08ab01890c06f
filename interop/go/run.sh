#!/usr/bin/env bash
# Go's net/rpc against ours, in both directions, and the bytes of gob.
#
#   cargo build --workspace && interop/go/run.sh
#
# Whatever is made here goes to target/interop.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
target=${CARGO_TARGET_DIR:-$root/target}
server=$target/debug/fourmodes-server
client=$target/debug/fourmodes
go=$target/interop/go

fail() {
    printf 'interop: %s\n' "$*" >&2
    exit 1
}

command -v go >/dev/null || fail "go is missing; on Debian: apt-get install golang-go"
[[ -x $server && -x $client ]] || fail "there is no $server or no $client; build them (cargo build --workspace)"

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

RUST_LOG=warn start "$server" --listen 127.0.0.1:0 net-rpc
address=${address#listening on tcp://}
for transport in tcp http json; do
    "$go/client" "$transport" "$address" "" "4611686018427387904 × 2 does not fit into a signed 64-bit integer"
done
# The lines of the documentation, at the port of this server.
lines() { sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/p" "$root/docs/net-rpc.md" | sed "1d;\$d;s/1234/${address##*:}/"; }
for program in "python python3 -c" "js node -e"; do
    read -r language command option <<<"$program"
    command -v "$command" >/dev/null || fail "$command is missing; on Debian: apt-get install python3 nodejs"
    answer=$("$command" "$option" "$(lines "$language")")
    [[ $answer = '{"id":0,"result":200,"error":null}' ]] || fail "the lines of $language: $answer"
    echo "ok $language"
done
# The same client at Go's own server: so the texts that it wants are Go's.
for transport in tcp http json; do
    start "$go/server" "$transport"
    "$go/client" "$transport" "$address" main.
    product=$("$client" net-rpc multiply 6 -7 --async --transport "$transport" --address "$address" --quiet)
    [[ $product = $'6 × -7 = -42\n-7 × 6 = -42' ]] || fail "6 times -7 at Go's server over $transport: $product"
done
echo "ok Rust client, Go server"

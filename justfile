# gRPC's four communication modes: a server, a client, and what they show.

target := env("CARGO_TARGET_DIR", justfile_directory() / "target")
bin := target / "debug"

# List the recipes.
[private]
default:
    @just --list --unsorted

# Start a server on a free port, take the tour, stop the server.
[group("see")]
demo: build
    #!/usr/bin/env bash
    set -euo pipefail
    dir=$(mktemp -d)
    mkfifo "$dir/stdout"
    {{ bin }}/server --listen 127.0.0.1:0 --data-dir :memory: all >"$dir/stdout" 2>"$dir/log" &
    server=$!
    stop() {
        kill "$server" 2>/dev/null || true
        wait "$server" || { cat "$dir/log" >&2; exit 1; }
        rm -r "$dir"
    }
    trap stop EXIT
    # The server's first line is `listening on http://ADDRESS`.
    read -r _ _ url <"$dir/stdout"
    {{ bin }}/client --server "$url" tour

# The server, for the first terminal: `just server`, `just server unary`, `just server certs --dir certs`.
[group("see")]
[no-exit-message]
server mode="all" *options: ready
    @exec {{ bin }}/server {{ mode }} {{ options }}

# One request, one response: `just unary multiply 6 7`, `just unary status`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
unary *scenario: ready
    @exec {{ bin }}/client unary "$@"

# One request, many responses: `just server-streaming quotes --count 5`, `… system`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
server-streaming *scenario: ready
    @exec {{ bin }}/client server-streaming "$@"

# Many requests, one response: `just client-streaming readings examples/readings.csv`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
client-streaming *scenario: ready
    @exec {{ bin }}/client client-streaming "$@"

# Many requests, many responses: `just bidi-streaming chat --room lobby --name ana`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
bidi-streaming *scenario: ready
    @exec {{ bin }}/client bidi-streaming "$@"

# All four modes against a running server, explained.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
tour *options: ready
    @exec {{ bin }}/client tour "$@"

# Does the path to a server carry all four modes? `just check`, `just check http://proxy:8080 --idle 60s`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
check *options: ready
    @exec {{ bin }}/client check "$@"

# The same, without a word when there is nothing to do.
[private]
ready:
    @test -x {{ bin }}/client || cargo build --workspace
    @cargo build --quiet --workspace

# Build both binaries: target/debug/server and target/debug/client.
[group("develop")]
build:
    cargo build --workspace

# Run the tests; what is given goes to cargo test.
[group("develop")]
[positional-arguments]
test *options:
    cargo test --workspace "$@"

# Kill the server again and again while clients work: `just faults`, `just faults 500`, `just faults 50 7`.
[group("develop")]
faults kills="50" seed="": build
    FAULTS_KILLS={{ kills }} {{ if seed == "" { "" } else { "FAULTS_SEED=" + seed } }} cargo test -p client --test faults -- --nocapture

# The power and the network fail in simulated time, as a seed says: `just simulate`, `just simulate 7`.
[group("develop")]
simulate *seed:
    CARGO_TARGET_DIR={{ target }}/simulation RUSTFLAGS="--cfg tokio_unstable" cargo test -p server --features simulation --test simulation -- {{ seed }}

# Attack the server in many ways while somebody calls it: `just abuse`; in `just test` its stalls are shorter.
[group("develop")]
abuse: build
    ABUSE_SECONDS=60 cargo test -p server --test abuse -- --nocapture

# Format the code.
[group("develop")]
fmt:
    cargo fmt --all

# What has to be clean before a change lands: format, lints, documentation.
[group("develop")]
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy -p server --features simulation --test simulation -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Python clients (grpcio) against the server; needs Python 3 with its venv module.
[group("develop")]
interop: build
    bash interop/run.sh

# All that CI runs.
[group("develop")]
ci: lint test simulate demo interop

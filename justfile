# gRPC's four communication modes: a server, a client, and what they show.

target := env("CARGO_TARGET_DIR", justfile_directory() / "target")
bin := target / "debug"
in_comparison := "--manifest-path comparison/Cargo.toml --target-dir " + quote(target / "comparison")

# List the recipes: the everyday ones first, at most 16, then the group `more`.
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
    {{ bin }}/fourmodes-server --listen 127.0.0.1:0 --data-dir :memory: all >"$dir/stdout" 2>"$dir/log" &
    server=$!
    stop() {
        status=$?
        kill "$server" 2>/dev/null || true
        # Interrupted, it was so as well: twice is cut, and no failure.
        if ! wait "$server" && [ "$status" != 130 ]; then
            cat "$dir/log" >&2
            status=1
        fi
        rm -r "$dir"
        exit "$status"
    }
    trap 'exit 130' INT TERM
    trap stop EXIT
    # The server's first line is `listening on http://ADDRESS`.
    read -r _ _ url <"$dir/stdout"
    {{ bin }}/fourmodes --server "$url" tour

# The server, for the first terminal: `just server`, `just server unary`, `just server certs --dir certs`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
server mode="all" *options: ready
    @exec {{ bin }}/fourmodes-server "$@"

# One request, one response: `just unary multiply 6 7`, `just unary status`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
unary *scenario: ready
    @exec {{ bin }}/fourmodes unary "$@"

# One request, many responses: `just server-streaming quotes --count 5`, `… system`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
server-streaming *scenario: ready
    @exec {{ bin }}/fourmodes server-streaming "$@"

# Many requests, one response: `just client-streaming readings examples/readings.csv`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
client-streaming *scenario: ready
    @exec {{ bin }}/fourmodes client-streaming "$@"

# Many requests, many responses: `just bidi-streaming chat --room lobby --name ana`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
bidi-streaming *scenario: ready
    @exec {{ bin }}/fourmodes bidi-streaming "$@"

# Demonstrate and explain all four modes against a running server.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
tour *options: ready
    @exec {{ bin }}/fourmodes tour "$@"

# Call any method of any gRPC server: `just call localhost:50051`, `just call shop:443 shop.v1.Shop/GetItem -d '{"id": 7}'`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
call *options: ready
    @exec {{ bin }}/fourmodes call "$@"

# Draw every call between any client and any server: `just watch --to http://127.0.0.1:50051`; the client calls port 50052.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
watch *options: ready
    @exec {{ bin }}/fourmodes watch "$@"

# Check whether the path to a server carries all four modes: `just check`, `just check http://proxy:8080 --idle 60s`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
check *options: ready
    @exec {{ bin }}/fourmodes check "$@"

# Measure what a message costs in each mode, with its own server or a running one: `just measure`, `just measure http://proxy:8080 --size 1KiB`.
[group("see")]
[no-cd, no-exit-message, positional-arguments]
measure *options:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --quiet --release --manifest-path {{ justfile_directory() }}/Cargo.toml -p server -p client
    # One that is there already has the machine for itself.
    if [[ -n "${FOURMODES_SERVER:-}" || "$*" == *://* ]]; then
        exec {{ target }}/release/fourmodes measure "$@"
    fi
    dir=$(mktemp -d)
    mkfifo "$dir/stdout"
    {{ target }}/release/fourmodes-server --listen 127.0.0.1:0 --data-dir :memory: all >"$dir/stdout" 2>"$dir/log" &
    server=$!
    trap 'kill "$server" 2>/dev/null || true; wait "$server" || true; rm -r "$dir"' EXIT
    # The server's first line is `listening on http://ADDRESS`.
    read -r _ _ url <"$dir/stdout"
    FOURMODES_SERVER=$url {{ target }}/release/fourmodes measure "$@"

# Run a trap of a first gRPC service, broken and fixed: `just lesson` lists them, `just lesson eof-is-not-commit` runs one.
[group("see")]
[no-exit-message, positional-arguments]
lesson *name: ready
    @exec {{ bin }}/lessons "$@"

# Like `build`, but silent when there is nothing to do.
[private]
ready:
    @test -x {{ bin }}/fourmodes || cargo build --workspace
    @cargo build --quiet --workspace

# Install both programs for the shell: fourmodes-server and fourmodes, in Cargo's directory for programs.
[group("more")]
install:
    cargo install --locked --path crates/server
    cargo install --locked --path crates/client

# Run the tests; arguments go to cargo test.
[group("develop")]
[positional-arguments]
test *options:
    @# Most tests wait for other processes most of the time.
    RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((4 * {{ num_cpus() }}))}" cargo test --workspace "$@"

# Format the code.
[group("more")]
fmt:
    cargo fmt --all
    cargo fmt --all --manifest-path comparison/Cargo.toml
    rustfmt --edition 2024 fuzz/fuzz_targets/*.rs

# Check format, lints and documentation, as before each landing.
[group("develop")]
lint: comparison-lock
    cargo fmt --all --check
    cargo fmt --all --manifest-path comparison/Cargo.toml --check
    rustfmt --edition 2024 --check fuzz/fuzz_targets/*.rs
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy -p client -p domain -p timeline -p watch --all-targets --features client/fuzzing,domain/fuzzing,timeline/fuzzing,watch/fuzzing -- -D warnings
    cargo clippy -p server --features simulation --test simulation -- -D warnings
    cargo clippy {{ in_comparison }} --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Everything that CI runs.
[group("develop")]
ci: lint deny test cluster-test alerts simulate demo compare-smoke interop conformance-short proxies restarts

# Build both binaries: target/debug/fourmodes-server and target/debug/fourmodes.
[group("more")]
build:
    cargo build --workspace

# Power and network failures in simulated time, by seed: `just simulate`, `just simulate 7`.
[group("more")]
simulate *seed:
    CARGO_TARGET_DIR={{ target }}/simulation RUSTFLAGS="--cfg tokio_unstable" cargo test -p server --features simulation --test simulation -- {{ seed }}

# Kill a server repeatedly, and restart two in turn, while clients work: `just faults`, `just faults 500`, `just faults 50 7`.
[group("more")]
faults kills="50" seed="":
    FAULTS_KILLS={{ kills }} {{ if seed == "" { "" } else { "FAULTS_SEED=" + seed } }} cargo test --workspace --test faults -- --nocapture

# The state in PostgreSQL: its store, and servers that share it and are killed: `just cluster-test`, `just cluster-test 100`; needs PostgreSQL 15 or later.
[group("more")]
cluster-test kills="6":
    FAULTS_KILLS={{ kills }} cargo test --workspace --lib --test faults -- --ignored --nocapture postgres database --skip rolling

# Is there one order of all that clients of such servers did and saw? Kills, hangs and cut connections: `just cluster-order`, `just cluster-order 300 30`; needs PostgreSQL 15 or later.
[group("more")]
cluster-order deaths="30" cuts="10":
    FAULTS_DEATHS={{ deaths }} FAULTS_CUTS={{ cuts }} cargo test --workspace --test faults -- --ignored --nocapture there_is_one_order

# Restart three servers that share a PostgreSQL database in turn under load: no call may fail; wants a machine that is not busy, so it is not part of `just ci`.
[group("more")]
cluster-restarts stops="6":
    FAULTS_STOPS={{ stops }} cargo test --workspace --test faults -- --ignored --nocapture rolling_restart_of_servers_of_one_database

# Posts and uploads a second, by each kind of store; takes the optimised programs; needs PostgreSQL 15 or later.
[group("more")]
cluster-throughput rounds="3":
    FAULTS_ROUNDS={{ rounds }} cargo test --release --workspace --test faults -- --ignored --nocapture throughput

# Tests of ops/alerts.yml and ops/dashboard.json, with a real Prometheus; needs Prometheus 2.42 or later and PostgreSQL.
[group("more")]
alerts:
    @for program in promtool prometheus; do command -v $program >/dev/null || { echo "$program is missing; install it: apt-get install prometheus" >&2; exit 1; }; done
    promtool test rules ops/alerts.test.yml
    cargo test --workspace --test it -- --ignored alerts

# Watch three servers that share a PostgreSQL database: a server is killed, then the database's primary, and clients go on; needs Python 3 and PostgreSQL 15 or later.
[group("more")]
[no-exit-message]
cluster: build
    @python3 ops/cluster.py {{ bin }}/fourmodes-server {{ bin }}/fourmodes

# Attack the server in many ways while a client calls it; `just test` has a short version.
[group("more")]
abuse:
    ABUSE_SECONDS=60 cargo test --workspace --test abuse -- --nocapture

# Random input for each target in `fuzz/`, for this many seconds: `just fuzz 60`, `just fuzz 60 uploads`; needs cargo-fuzz.
[group("more")]
[positional-arguments]
fuzz seconds *targets:
    #!/usr/bin/env bash
    set -euo pipefail
    # The stable compiler will do: without a sanitizer, of which code that has no
    # `unsafe` has little use.
    export RUSTC_BOOTSTRAP=1
    # Uploads are quicker in memory, where there is such a place for files.
    if [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi
    # The versions that the tests have.
    [ fuzz/Cargo.lock -nt Cargo.lock ] || cp Cargo.lock fuzz/
    shift
    for target in ${@:-requests responses readings uploads document net_rpc schema watched}; do
        mkdir -p "fuzz/corpus/$target"
        cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
            -max_total_time={{ seconds }} -timeout=20 -print_final_stats=1
    done

# The dependencies: licences, duplicates, where they come from; needs cargo-deny.
[group("more")]
deny: comparison-lock
    cargo deny --locked check --deny warnings bans licenses sources
    # What it needs beyond ours: the same licences, of which it does not need all.
    cargo deny --config deny.toml --manifest-path comparison/Cargo.toml check --allow license-not-encountered licenses sources

# Known vulnerabilities of the dependencies; fetches a database, so it is not part of `just ci`.
[group("more")]
advisories:
    cargo deny --locked check advisories

# Clients and servers in other languages: Python (grpcio), JavaScript (grpc-js, connect-web), Go (net/rpc); needs Python 3, npm and Go.
[group("more")]
interop: build
    bash interop/run.sh
    # The same through `watch`, which has to follow every encoder.
    printf '#!/bin/sh\nexec python3 "%s" "%s" "%s" "$@"\n' {{ justfile_directory() }}/interop/watched.py \
        {{ bin }}/fourmodes-server {{ bin }}/fourmodes >{{ target }}/interop/watched
    chmod +x {{ target }}/interop/watched
    FOURMODES_SERVER_BIN={{ target }}/interop/watched bash interop/run.sh
    bash interop/go/run.sh

# Other people's tests: Connect's conformance suites, h2spec, the interop programs of grpc-go and grpc-java, grpcurl, ghz, buf: `just conformance`, `just conformance h2spec`; needs Go 1.24 or later, a JDK and Maven.
[group("more")]
[positional-arguments]
conformance *options: build
    python3 interop/conformance/run.py "$@"

# Of these Connect's suites and h2spec, with fewer kinds of connections: what CI runs; needs Go 1.24 or later.
[group("more")]
conformance-short: build
    python3 interop/conformance/run.py --short

# The interop cases 300 times each way, 64 workers for 30 s, 3,200 large calls, and restarts under the load of stock clients.
[group("more")]
conformance-soak: build
    python3 interop/conformance/soak.py

# docs/conformance.md, from the reports of `just conformance`.
[group("more")]
conformance-table:
    python3 interop/conformance/run.py --table docs/conformance.md

# docs/page.png, by a real browser; run `just interop` first, which installs what it needs.
[group("more")]
page-picture: build
    cp interop/node/picture.js {{ target }}/interop/node/
    cd {{ target }}/interop/node && FOURMODES_SERVER_BIN={{ bin }}/fourmodes-server FOURMODES_CLIENT_BIN={{ bin }}/fourmodes CHROMIUM=$(command -v chromium) node picture.js {{ justfile_directory() }}/docs/page.png

# docs/recording.svg, from a run of both programs; needs Python 3.
[group("more")]
recording: build
    python3 interop/recording.py {{ bin }}/fourmodes-server {{ bin }}/fourmodes docs/recording.svg

# The pages as a site with search, in target/book; a broken link fails. Needs mdBook and Python 3.
[group("more")]
book:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v mdbook >/dev/null || { echo "mdBook is missing: cargo install mdbook --locked" >&2; exit 1; }
    # Pages link to sources, so the site has both.
    rm -rf {{ quote(target / "book") }} {{ quote(target / "book-source") }}
    mkdir -p {{ quote(target / "book-source") }}
    cp docs/book/book.toml {{ quote(target / "book-source") }}
    git ls-files -z | xargs -0 cp --parents -t {{ quote(target / "book-source") }}
    cp docs/book/SUMMARY.md {{ quote(target / "book-source") }}
    mdbook build --dest-dir {{ quote(target / "book") }} {{ quote(target / "book-source") }}
    python3 docs/book/links.py {{ quote(target / "book") }}

# A million calls of net/rpc pipelined on one connection, by gob and by JSON, and 10,000 connections one after the other.
[group("more")]
net-rpc-soak:
    NET_RPC_CALLS=1000000 NET_RPC_CONNECTIONS=10000 cargo test --release -p net-rpc --test it -- --nocapture pipelined come_and_go

# `fourmodes check` through real proxies, compared with another client: `just proxies`, `just proxies nginx/good`, `just proxies --all`.
[group("more")]
[positional-arguments]
proxies *options: build
    "$(bash interop/venv.sh)/bin/python" interop/proxies/run.py "$@"

# The server is killed behind nginx, HAProxy, Apache and a proxy in Go while clients work: `just restarts`, `just restarts --kills 10 apache`; needs Go.
[group("more")]
[positional-arguments]
restarts *options: build
    python3 interop/proxies/restarts.py "$@"

# docs/proxies.md, from the results of `just proxies --all`.
[group("more")]
proxies-table:
    "$(bash interop/venv.sh)/bin/python" interop/proxies/run.py --table docs/proxies.md

# docs/lessons.md, from the lessons.
[group("more")]
lessons-doc:
    cargo build -p lessons
    {{ bin }}/lessons --markdown >docs/lessons.md.new
    mv docs/lessons.md.new docs/lessons.md

# The server beside others, in one run: `just compare`, `just compare --only unary64 --against h2`. docs/measure.md says what other stacks need.
[group("more")]
[positional-arguments]
compare *options: comparison-lock
    cargo build --release -p server -p client
    cargo build --release --workspace {{ in_comparison }}
    @for stack in grpc-go grpc-cpp grpc-java; do \
        program={{ quote(target / "comparison/release") }}/$stack; \
        bash comparison/$stack/build.sh "$program" || { rm -f "$program"; echo "$stack is left out" >&2; }; \
    done
    {{ target }}/comparison/release/comparison run \
        --server {{ target }}/release/fourmodes-server --client {{ target }}/release/fourmodes \
        {{ if options == "" { "--output " + quote(target / "comparison.json") } else { '"$@"' } }}

# docs/performance.md and its pictures, from the results of `just compare`.
[group("more")]
compare-report figures=(target / "comparison.json"): comparison-lock
    cargo run --quiet {{ in_comparison }} -- report {{ quote(figures) }} docs

# A short run of `just compare` and `just compare-report`, and their tests. Its figures mean nothing.
[group("more")]
compare-smoke: build comparison-lock
    #!/usr/bin/env bash
    set -euo pipefail
    cargo test {{ in_comparison }}
    dir=$(mktemp -d)
    trap 'rm -r "$dir"' EXIT
    comparison={{ target }}/comparison/debug/comparison
    "$comparison" run --server {{ bin }}/fourmodes-server --client {{ bin }}/fourmodes \
        --rounds 1 --each 50ms --upload 1MiB --idle-streams 100 --output "$dir/comparison.json"
    "$comparison" report "$dir/comparison.json" "$dir"

# The traps of docs/lessons.md with other Rust stacks: connectrpc's server and client, grpc's client. CI does not run it.
[group("more")]
[positional-arguments]
compare-traps *options: comparison-lock
    cargo test {{ in_comparison }} -p connectrpc-server --test traps "$@"

# The other stacks are built with the versions that the server is built with.
[private]
comparison-lock:
    @[ comparison/Cargo.lock -nt Cargo.lock ] || cp Cargo.lock comparison/

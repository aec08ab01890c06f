"""Runs other people's tests against our programs.

    run.py [--short] [SUITE...]
    run.py --table docs/conformance.md

Each suite leaves a report in target/conformance. The run fails when a case fails that known.toml does not
name with its cause, and when one that it names passes. --table makes the page from the reports. --short is what CI runs.
"""

import argparse
import sys
import time
import tomllib
from functools import partial
from pathlib import Path

import suites
from table import table
from tools import GO, HERE, OUT, Missing, go_tools, java_tools, node_tools, python_tools

GRPC, WEB, CLIENT = "Connect: server, gRPC", "Connect: server, gRPC-Web", "Connect: client, gRPC"
# What each needs, and what runs it; the first four are the short form.
SUITES = {
    GRPC: ("connectconformance", partial(suites.connect, mode="server", protocol="GRPC")),
    WEB: ("connectconformance", partial(suites.connect, mode="server", protocol="GRPC_WEB")),
    CLIENT: ("connectconformance", partial(suites.connect, mode="client", protocol="GRPC")),
    "h2spec": ("h2spec", partial(suites.h2spec, tls=False)),
    "h2spec over TLS": ("h2spec java", partial(suites.h2spec, tls=True)),
    "grpc-go's client": ("client", partial(suites.go_client, tls=False)),
    "grpc-go's client over TLS": ("client java", partial(suites.go_client, tls=True)),
    "grpc-go's server": ("server", partial(suites.our_client, start=suites.go_server, tls=False)),
    "grpc-go's server over TLS": ("server java", partial(suites.our_client, start=suites.go_server, tls=True)),
    "grpc-java's client": ("java", partial(suites.java_client, tls=False)),
    "grpc-java's client over TLS": ("java", partial(suites.java_client, tls=True)),
    "grpc-java's server": ("java", partial(suites.our_client, start=suites.java_server, tls=False)),
    "grpc-java's server over TLS": ("java", partial(suites.our_client, start=suites.java_server, tls=True)),
    "grpc-js's client": ("node", partial(suites.own_client, tls=False, command=suites.NODE_CLIENT)),
    "grpc-js's client over TLS": ("node java", partial(suites.own_client, tls=True, command=suites.NODE_CLIENT)),
    "grpc-js's server": ("node", partial(suites.our_client, start=suites.node_server, tls=False)),
    "grpc-js's server over TLS": ("node java", partial(suites.our_client, start=suites.node_server, tls=True)),
    "grpcio's client": ("python", partial(suites.own_client, tls=False, command=suites.GRPCIO_CLIENT)),
    "grpcio's client over TLS": ("python java", partial(suites.own_client, tls=True, command=suites.GRPCIO_CLIENT)),
    "grpcio's server": ("python", partial(suites.our_client, start=suites.grpcio_server, tls=False)),
    "grpcio's server over TLS": ("python java", partial(suites.our_client, start=suites.grpcio_server, tls=True)),
    "grpcurl on every method": ("grpcurl buf", partial(suites.methods, program="grpcurl")),
    "buf curl on every method": ("buf", partial(suites.methods, program="buf")),
    "grpc-health-probe and ghz": ("grpc-health-probe ghz", suites.probes),
}
SHORT = [GRPC, WEB, CLIENT, "h2spec"]


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--table", metavar="FILE")
    parser.add_argument("suites", nargs="*", metavar="SUITE")
    options = parser.parse_args(arguments)
    known = tomllib.loads((HERE / "known.toml").read_text())
    if options.table:
        Path(options.table).write_text(table(SUITES, known))
        return 0
    if unknown := set(options.suites) - set(SUITES):
        print(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}", file=sys.stderr)
        return 2
    chosen = options.suites or (SHORT if options.short else list(SUITES))
    needs = {need for name in chosen for need in SUITES[name][0].split()}
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        go_tools([name for name in GO if name in needs])
        if "java" in needs:
            java_tools()
        if "node" in needs:
            node_tools()
        if "python" in needs:
            python_tools()
    except Missing as missing:
        print(f"conformance: {missing}", file=sys.stderr)
        return 1
    passed = wrong = 0
    for name in chosen:
        begun = time.monotonic()
        run = SUITES[name][1]
        short = {"short": options.short} if name in (GRPC, WEB, CLIENT) else {}
        result = run(name, **short)
        if not options.short:
            result.keep()
        expected = known.get(name, {})
        news = {case: why for case, why in result.failed.items() if case not in expected}
        gone = set(expected) - set(result.failed) if not options.short else set()
        counts = f"{result.passed} passed, {len(result.failed)} failed, {len(result.skipped)} left out"
        print(f"{'FAILED' if news or gone else 'ok':7}{name}: {counts}, {time.monotonic() - begun:.0f} s", flush=True)
        for case, why in news.items():
            print(f"       {case}", *why.splitlines(), sep="\n         ", flush=True)
        for case in gone:
            print(f"       {case} passes, and known.toml says that it does not")
        passed, wrong = passed + result.passed, wrong + len(news) + len(gone)
    print(f"{passed} passed, {wrong} failed")
    return 1 if wrong or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

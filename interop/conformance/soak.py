"""The interop programs of others against ours, again and again, and while our server is restarted.

    soak.py [PART...]
"""

import concurrent.futures
import contextlib
import json
import subprocess
import sys
import time

from suites import BASIC, CALLS, SERVICE, body, go_server, java_server, our_call
from tools import BIN, OUT, SERVER, Missing, free_port, go_tools, java, java_tools, ours, run, stop

REPETITIONS = 300
CASES = [case for case in BASIC if case in CALLS]
# As a client has it that means to survive a restart (gRFC A6).
RETRIES = json.dumps({
    "methodConfig": [{
        "name": [{}], "waitForReady": True,
        "retryPolicy": {
            "maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }],
})


def to(flag, address):
    host, port = address.split(":")
    return [f"{flag}server_host={host}", f"{flag}server_port={port}"]


def go_client(address, case, *more):
    return [BIN / "client", *to("-", address), f"-test_case={case}", *(f"-{it}" for it in more)]


def java_client(address, case, *more):
    plain = "--use_tls=false"
    return java("TestServiceClient", *to("--", address), plain, f"--test_case={case}", *(f"--{it}" for it in more))


def go_client_again():
    """Each case 300 times by grpc-go's client."""
    with ours() as address:
        yield from many((case, [go_client(address, case)] * REPETITIONS) for case in CASES)


def java_client_again():
    """Each case 300 times by grpc-java's client."""
    with ours() as address:
        yield from many((case, [java_client(address, case, f"num_times={REPETITIONS}")]) for case in CASES)


def many(runs):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for case, commands in runs:
            done = [said for said, code in pool.map(lambda command: run(command, 600), commands) if code]
            yield case, not done, f"{len(done)} of {len(commands)}: {done[0] if done else ''}"


def our_client_again(start):
    with start(False) as port, concurrent.futures.ThreadPoolExecutor(4) as pool:
        for case in CASES:
            done = pool.map(lambda _: our_call(port, False, case), range(REPETITIONS))
            wrong = [said for ok, said in done if not ok]
            yield case, not wrong, f"{len(wrong)} of {REPETITIONS}: {wrong[0] if wrong else ''}"


def at_go_again():
    """Each case 300 times by `fourmodes call` at grpc-go's server."""
    yield from our_client_again(go_server)


def at_java_again():
    """Each case 300 times by `fourmodes call` at grpc-java's server."""
    yield from our_client_again(java_server)


def workers():
    """64 workers for 30 s."""
    with ours() as address:
        load = ["-c", "64", "-z", "30s", "--duration-stop", "wait", "-d", json.dumps({"response_size": 1000})]
        said, code = run([BIN / "ghz", "--insecure", "--call", f"{SERVICE}.UnaryCall", *load, "-O", "json", address])
        codes = json.loads(said)["statusCodeDistribution"] if code == 0 else {}
        yield f"ghz: {codes}", set(codes) == {"OK"}, said
    until = time.monotonic() + 30

    def worker(_):
        made = 0
        while time.monotonic() < until:
            ok, said = our_call(port, False, "empty_unary")
            if not ok:
                return made, said
            made += 1
        return made, ""

    with go_server(False) as port, concurrent.futures.ThreadPoolExecutor(64) as pool:
        done = list(pool.map(worker, range(64)))
        made, wrong = sum(made for made, _ in done), [said for _, said in done if said]
        yield f"fourmodes call at grpc-go's server: {made} runs", not wrong, "\n".join(wrong[:1])


SOAK = ["soak_iterations=3200", "soak_num_threads=64", "soak_max_failures=0", "soak_overall_timeout_seconds=300"]


def large():
    """3,200 large unary calls of 64 threads."""
    with ours() as address:
        for client in (go_client, java_client):
            said, code = run(client(address, "rpc_soak", *SOAK, "soak_per_iteration_max_acceptable_latency_ms=20000"), 400)
            yield f"rpc_soak by {client.__name__}", code == 0, said


def restarts():
    """SIGTERM and a new start of the server, under the load of each client."""
    options = [*SOAK, "soak_per_iteration_max_acceptable_latency_ms=60000", f"service_config_json={RETRIES}"]
    for client in (go_client, java_client):
        port = free_port()
        address, log = f"127.0.0.1:{port}", open(OUT / "soak.log", "a")
        server, times = started(port, log), 0
        endless = json.dumps({"response_parameters": [{"size": 1}, {"size": 1, "interval_us": 60_000_000}]})
        stream = [BIN / "grpcurl", "-plaintext", "-d", endless, address, f"{SERVICE}/StreamingOutputCall"]
        streams = []
        load = subprocess.Popen([str(it) for it in client(address, "rpc_soak", *options)], stdout=log, stderr=log)
        try:
            while load.poll() is None:
                watching = subprocess.Popen(stream, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                # Its first message is there, and the load has a moment.
                watching.stdout.readline()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    load.wait(2)
                stop(server)
                streams.append(watching.communicate()[0])
                server, times = started(port, log), times + 1
        finally:
            stop(server)
        name = f"rpc_soak by {client.__name__}, {times} restarts"
        yield name, load.returncode == 0 and times > 1, f"see {OUT / 'soak.log'}"
        wrong = [said for said in streams if "Unavailable" not in said or "RetryInfo" not in said]
        yield f"{len(streams)} streams end with UNAVAILABLE and RetryInfo", not wrong, "".join(wrong[:1])


def started(port, log):
    command = [SERVER, "--listen", f"127.0.0.1:{port}", "--data-dir", ":memory:", "all"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    server.stdout.readline()
    return server


PARTS = [go_client_again, java_client_again, at_go_again, at_java_again, workers, large, restarts]


def main(names):
    try:
        go_tools(["client", "server", "ghz", "grpcurl"])
        java_tools()
    except Missing as missing:
        print(f"conformance: {missing}", file=sys.stderr)
        return 1
    counts = {True: 0, False: 0}
    for part in PARTS:
        if names and part.__name__ not in names:
            continue
        print(f"{part.__name__}: {part.__doc__ or ''}", flush=True)
        for name, ok, said in part():
            counts[ok] += 1
            print(f"  {'ok' if ok else 'FAILED':7}{name}", *([] if ok else [said]), sep="\n    ", flush=True)
    print(f"{counts[True]} passed, {counts[False]} failed")
    return 1 if counts[False] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

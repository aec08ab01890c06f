"""The suites: each is a function that runs one and gives back its Result."""

import base64
import concurrent.futures
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass, field

from tools import ADAPTER, BIN, CERTS, CLIENT, DESCRIPTORS, HERE, NODE, OUT, PYTHON, ROOT
from tools import free_port, java, ours, run, theirs

SERVICE = "grpc.testing.TestService"
# The name in the certificate that grpc's own tests have.
NAMED = "foo.test.google.fr"


@dataclass
class Result:
    suite: str
    passed: int = 0
    # Left out, with the reason.
    skipped: dict = field(default_factory=dict)
    # By name, with what was said.
    failed: dict = field(default_factory=dict)

    def add(self, case, ok, said=""):
        if ok:
            self.passed += 1
        else:
            self.failed[case] = said.strip()[-2000:]

    def keep(self):
        path = OUT / f"report-{re.sub(r'[^a-z0-9]+', '-', self.suite.lower())}.json"
        path.write_text(json.dumps(asdict(self), indent=2))


def connect(suite, mode, protocol, short):
    """Connect's runner, with our adapter."""
    result = Result(suite)
    features = {
        "versions": ["HTTP_VERSION_1", "HTTP_VERSION_2"] if protocol == "GRPC_WEB" else ["HTTP_VERSION_2"],
        "protocols": [f"PROTOCOL_{protocol}"],
        "codecs": ["CODEC_PROTO"],
        "compressions": [f"COMPRESSION_{it}" for it in (["GZIP"] if short else ["IDENTITY", "GZIP", "ZSTD"])],
        "supportsTls": not short,
        "supportsHalfDuplexBidiOverHttp1": protocol == "GRPC_WEB",
        "supportsTlsClientCerts": not short,
        # tonic says OUT_OF_RANGE, and the product sets no such limit on the client.
        "supportsMessageReceiveLimit": mode == "server",
    }
    # The cases of wrong requests and answers are without compression.
    if short:
        features["compressions"].insert(0, "COMPRESSION_IDENTITY")
    config = OUT / f"connect-{mode}-{protocol}.yaml"
    config.write_text(json.dumps({"features": features}))
    adapter = [ADAPTER, mode, *(["--without-error-info"] if mode == "server" else [])]
    parallel = ["--parallel", 16] if mode == "server" else []
    command = [BIN / "connectconformance", "--conf", config, "--mode", mode, *parallel]
    said, _ = run([*command, "--", *adapter], 600)
    (OUT / f"connect-{mode}-{protocol}.log").write_text(said)
    for name, why in re.findall(r"^FAILED: (.+?):?\n((?:\s.*\n)*)", said, re.MULTILINE):
        result.failed[name] = why.strip()
    total = re.search(r"^(\d+) passed, (\d+) failed", said, re.MULTILINE)
    result.passed = int(total[1]) if total else 0
    if not total or int(total[2]) != len(result.failed):
        result.failed["the run itself"] = said[-2000:]
    return result


def h2spec(suite, tls):
    """The frames of HTTP/2, wrong in each way that its RFC names."""
    result = Result(suite)
    report = OUT / "h2spec.xml"
    report.unlink(missing_ok=True)
    options = ["--tls-cert", CERTS / "server1.pem", "--tls-key", CERTS / "server1.key"] if tls else []
    with ours(*options) as address:
        host, port = address.split(":")
        # Five headers of this length are more than the frames of 256 KiB that we take:
        # with those that it has by default no frame is too long.
        command = [BIN / "h2spec", "-h", host, "-p", port, "--max-header-length", "70000", "-j", report]
        command += ["-t", "-k"] if tls else []
        said, _ = run(command)
        if not report.exists():
            result.failed["the run itself"] = said
            return result
        for package in ElementTree.parse(report).iter("testsuite"):
            for number, case in enumerate(package.iter("testcase"), 1):
                wrong = [it for it in case if it.tag in ("failure", "error")]
                number = f"{package.get('package')}/{number}"
                # h2spec sends no content type of gRPC, so the answer to a head is 415. Where
                # that is out before the next frame comes, the stream is over, and what is
                # wrong with the frame is nobody's business: such a case has more attempts.
                again = (run([*command, number])[1] == 0 for _ in range(9))
                said = "".join("".join(it.itertext()) for it in wrong)
                result.add(f"{number}: {case.get('classname')}", not wrong or any(again), said)
    return result


BASIC = [
    *["empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream"],
    *["custom_metadata", "status_code_and_message", "special_status_message", "unimplemented_method"],
    *["unimplemented_service", "cancel_after_begin", "cancel_after_first_response", "timeout_on_sleeping_server"],
    "pick_first_unary",
]
SOAK = ["rpc_soak", "channel_soak"]
COMPRESSED = [
    *["client_compressed_unary", "client_compressed_unary_noprobe", "server_compressed_unary"],
    *["client_compressed_streaming", "client_compressed_streaming_noprobe", "server_compressed_streaming"],
]
CREDENTIALS = [
    *["compute_engine_creds", "compute_engine_channel_credentials", "service_account_creds", "jwt_token_creds"],
    *["oauth2_auth_token", "per_rpc_creds", "google_default_credentials"],
]
LEFT_OUT = {
    **dict.fromkeys(["orca_per_rpc", "orca_oob"], "needs a server that reports its load (ORCA)"),
    **dict.fromkeys(CREDENTIALS, "needs credentials of Google"),
}
NODE_CLIENT = ["node", NODE / "node.mjs", "client"]
GRPCIO_CLIENT = [PYTHON, HERE / "grpcio_client.py", DESCRIPTORS]


def served(tls):
    options = ["--max-message", "16MiB"]
    return [*options, "--tls-cert", CERTS / "server1.pem", "--tls-key", CERTS / "server1.key"] if tls else options


def go_client(suite, tls, cases=(*BASIC, *SOAK)):
    result = Result(suite, skipped=dict(LEFT_OUT))
    secure = ["-use_tls", "-use_test_ca", "-ca_file", CERTS / "ca.pem", "-server_host_override", NAMED] if tls else []
    with ours(*served(tls)) as address:
        host, port = address.split(":")
        for case in cases:
            said, code = run([BIN / "client", "-server_host", host, "-server_port", port, "-test_case", case, *secure])
            result.add(case, code == 0, said)
    return result


def java_client(suite, tls):
    result = Result(suite, skipped={**LEFT_OUT, "cacheable_unary": "needs a proxy that caches"})
    secure = ["--use_test_ca=true", f"--server_host_override={NAMED}"] if tls else []
    with ours(*served(tls)) as address:
        host, port = address.split(":")
        to = [f"--server_host={host}", f"--server_port={port}", f"--use_tls={str(tls).lower()}", *secure]

        def one(case):
            return run(java("TestServiceClient", *to, f"--test_case={case}"))

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            cases = [*BASIC, *COMPRESSED, "very_large_request", *SOAK]
            for case, (said, code) in zip(cases, pool.map(one, cases)):
                result.add(case, code == 0, said)
    return result


def own_client(suite, tls, command):
    """A program of our own: those of grpc-node and of grpcio are on no registry."""
    result = Result(suite)
    with ours(*served(tls)) as address:
        said, code = run([*command, address, *([CERTS / "ca.pem", NAMED] if tls else [])])
        for line in said.splitlines():
            case, _, what = line.partition(" ")
            result.add(case, what == "ok", what)
        if code or not result.passed:
            result.failed["the run itself"] = said
    return result


def key_pair(tls):
    return [CERTS / "server1.pem", CERTS / "server1.key"] if tls else []


def node_server(tls):
    port = free_port()
    return theirs("node", NODE / "node.mjs", "server", port, *key_pair(tls), port=port)


def grpcio_server(tls):
    port = free_port()
    server = ROOT / "interop/python/standard_server.py"
    return theirs(PYTHON, server, str(port), *key_pair(tls), port=port, FOURMODES_DESCRIPTORS=str(DESCRIPTORS))


def go_server(tls):
    port = free_port()
    secure = ["-use_tls", "-tls_cert_file", CERTS / "server1.pem", "-tls_key_file", CERTS / "server1.key"]
    return theirs(BIN / "server", "-port", port, *(secure if tls else []), port=port)


def java_server(tls):
    port = free_port()
    return theirs(*java("TestServiceServer", f"--port={port}", f"--use_tls={str(tls).lower()}"), port=port)


def body(size):
    return {"body": base64.b64encode(bytes(size)).decode()}


def lines(*messages):
    return "\n".join(json.dumps(message) for message in messages)


SIZES = [31415, 9, 2653, 58979]
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
# By the names of the interop cases: method, input, options, exit status, what has to be said.
CALLS = {
    "empty_unary": ("EmptyCall", "{}", [], 0, r"^\{\}$"),
    "large_unary": ("UnaryCall", lines({"responseSize": 314159, "payload": body(271828)}), [], 0, "A{400000}"),
    "client_streaming": (
        "StreamingInputCall", lines(*({"payload": body(size)} for size in (27182, 8, 1828, 45904))), [], 0, "74922",
    ),
    "server_streaming": (
        "StreamingOutputCall", lines({"responseParameters": [{"size": size} for size in SIZES]}), [], 0,
        r"(?s)\{.*\n\{.*\n\{.*\n\{",
    ),
    "ping_pong": (
        "FullDuplexCall", lines(*({"responseParameters": [{"size": size}]} for size in SIZES)), [], 0,
        r"(?s)\{.*\n\{.*\n\{.*\n\{",
    ),
    "empty_stream": ("FullDuplexCall", "", [], 0, r"^$"),
    "custom_metadata": (
        "UnaryCall", "{}",
        ["-v", "-H", "x-grpc-test-echo-initial: test", "-H", "x-grpc-test-echo-trailing-bin: 0xababab"], 0,
        r"(?s)echo-initial: test.*echo-trailing-bin: 0xababab",
    ),
    "status_code_and_message": (
        "UnaryCall", lines({"responseStatus": {"code": 2, "message": "test status message"}}), [], 1,
        "UNKNOWN: test status message",
    ),
    "special_status_message": (
        "UnaryCall", lines({"responseStatus": {"code": 2, "message": SPECIAL}}), [], 1,
        "test with whitespace.*and Unicode BMP ☺ and non-BMP 😈",
    ),
    "unimplemented_method": ("UnimplementedCall", "{}", [], 1, "UNIMPLEMENTED"),
    "unimplemented_service": ("UnimplementedService/UnimplementedCall", "{}", [], 1, "UNIMPLEMENTED"),
    "timeout_on_sleeping_server": (
        "FullDuplexCall", lines({"responseParameters": [{"size": 9, "intervalUs": 5_000_000}]}),
        ["--deadline", "100ms"], 1, "DEADLINE_EXCEEDED",
    ),
}


def our_call(port, tls, case, *more):
    method, messages, options, code, said = CALLS[case]
    method = f"{SERVICE}/{method}" if "/" not in method else f"grpc.testing.{method}"
    secure = ["--authority", NAMED, "--ca", CERTS / "ca.pem"] if tls else []
    command = [CLIENT, "call", f"{'https' if tls else 'http'}://127.0.0.1:{port}", method, "-d", "@-", "--quiet"]
    proto = ["--proto", ROOT / "proto/grpc/testing/test.proto", "-I", ROOT / "proto"]
    output, status = run([*command, *proto, *options, *secure, *more], input=messages)
    return status == code and re.search(said, output, re.MULTILINE) is not None, output


def our_client(suite, start, tls):
    """The cases that `call` can make, and all of `check --standard` that needs no name in a certificate."""
    result = Result(suite)
    with start(tls) as port:
        for case in CALLS:
            result.add(f"call {case}", *our_call(port, tls, case))
        if not tls:
            report = OUT / "check.json"
            said, _ = run([CLIENT, "check", f"http://127.0.0.1:{port}", "--standard", "--output", "json"])
            report.write_text(said)
            checks = [json.loads(line) for line in said.splitlines() if line.startswith('{"type":"check"')]
            for check in checks:
                name = f"check {check['group']}/{check['name']}"
                if check["outcome"] in ("fail", "pass"):
                    result.add(name, check["outcome"] == "pass", json.dumps(check))
                else:
                    result.skipped[name] = check["cause"]
    return result


# What a method may say to an empty request: what it is asked for is not there, or not
# right, or the method never ends.
ANSWERS = {0, 3, 4, 5, 9, 11, 12}


def methods(suite, program):
    """Each method of each service, by reflection, with an empty request."""
    result = Result(suite)
    with ours("--max-unary-deadline", "2s") as address:
        buf = [BIN / "buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
        listed, _ = run([*buf, "--list-methods", f"http://{address}"])

        def one(method):
            if program == "grpcurl":
                said, code = run([BIN / "grpcurl", "-plaintext", "-max-time", "1", "-d", "{}", address, method])
                code = max(code - 64, 0) if code != 1 else -1
            else:
                said, code = run(["timeout", "2", *buf, "-d", "{}", f"http://{address}/{method}"])
                # Eight times the code; a stream without end is stopped by `timeout`.
                code = 4 if code == 124 else code // 8 if code % 8 == 0 else -1
            return method, code in ANSWERS, said

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for answer in pool.map(one, listed.split()):
                result.add(*answer)
    if not result.passed:
        result.failed["the list of methods"] = listed
    return result


def probes(suite):
    """Health by grpc-health-probe, and load by ghz in each mode."""
    result = Result(suite)
    streamed = {"response_parameters": [{"size": 9}, {"size": 9}]}
    loads = {
        "EmptyCall": {}, "UnaryCall": {"response_size": 1000}, "StreamingOutputCall": streamed,
        "StreamingInputCall": [{}, {}], "FullDuplexCall": [streamed, streamed],
    }
    with ours() as address:
        for service in ("", SERVICE, "fourmodes.v1.UnaryService"):
            said, code = run([BIN / "grpc-health-probe", "-addr", address, "-service", service])
            # Health knows the services of the modes; 3 is the answer NOT_FOUND.
            expected = 3 if service == SERVICE else 0
            result.add(f"grpc-health-probe {service or 'of the server'}", code == expected, said)
        for method, data in loads.items():
            command = [BIN / "ghz", "--insecure", "--call", f"{SERVICE}.{method}", "-n", "500", "-d", json.dumps(data)]
            said, code = run([*command, "-O", "json", address])
            codes = json.loads(said)["statusCodeDistribution"] if code == 0 else {}
            result.add(f"ghz {method}", codes == {"OK": 500}, said)
    return result

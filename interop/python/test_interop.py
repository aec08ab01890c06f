"""Calls the server as programs with grpcio do, by stubs generated from proto/.

FOURMODES_SERVER_BIN is the path of the server; interop/run.sh generates the
stubs and sets it.
"""

import atexit
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from fourmodes.v1 import bidi_streaming_pb2 as bidi
from fourmodes.v1 import client_streaming_pb2 as client
from fourmodes.v1 import server_streaming_pb2, unary_pb2
from fourmodes.v1.bidi_streaming_pb2_grpc import BidiStreamingServiceStub
from fourmodes.v1.client_streaming_pb2_grpc import ClientStreamingServiceStub
from fourmodes.v1.server_streaming_pb2_grpc import ServerStreamingServiceStub
from fourmodes.v1.unary_pb2_grpc import UnaryServiceStub
from google.bytestream import bytestream_pb2
from google.bytestream.bytestream_pb2_grpc import ByteStreamStub

# Seconds. Long enough for a busy machine: only a call that hangs comes to it.
TIMEOUT = 20

# Later services come on top, so these are the ones that have to be there.
SERVICES = {
    "Greeter",
    "fourmodes.v1.BidiStreamingService",
    "fourmodes.v1.ClientStreamingService",
    "fourmodes.v1.ServerStreamingService",
    "fourmodes.v1.UnaryService",
    "google.bytestream.ByteStream",
    "streamingdemo.StreamService",
}

server = None


def setUpModule():
    global server
    # A proxy that the environment names is not for the loopback interface.
    os.environ["no_grpc_proxy"] = "127.0.0.1"
    # unittest lets only this exception end the run.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = Server()
    unittest.addModuleCleanup(server.stop)


def environment():
    # Settings of the shell at hand are not under test.
    env = {key: value for key, value in os.environ.items() if not key.startswith("FOURMODES_")}
    return {"RUST_LOG": "warn"} | env


class Server:
    """A server process on a port of its own choice."""

    def __init__(self, *options, command=None, env=None):
        binary = os.environ["FOURMODES_SERVER_BIN"]
        command = command or [binary, "--listen", "127.0.0.1:0", "--data-dir", ":memory:", *options, "all"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env or environment())
        # An interrupted run has no module cleanup.
        atexit.register(self.process.kill)
        # Ends the reading below when no line comes.
        watchdog = threading.Timer(TIMEOUT, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        found = re.fullmatch(r"listening on https?://(.*)\n", line)
        if not found:
            raise AssertionError(f"the first line of the server is {line!r}")
        self.address = found[1]

    def stop(self):
        self.process.terminate()
        try:
            rest, _ = self.process.communicate(timeout=TIMEOUT)
        finally:
            self.process.kill()
        if (self.process.returncode, rest) != (0, ""):
            raise AssertionError(f"the server left with {self.process.returncode}, stdout {rest!r}")


class InteropTest(unittest.TestCase):
    def setUp(self):
        self.channel = grpc.insecure_channel(server.address)
        self.addCleanup(self.channel.close)

    def open_calls(self, mode):
        response = UnaryServiceStub(self.channel).GetStatus(unary_pb2.GetStatusRequest(), timeout=TIMEOUT)
        return next(status.calls_open for status in response.modes if status.mode == mode)

    def assert_no_open_calls(self, mode):
        """At once or soon: the server hears of a client's end a moment after the client."""
        until = time.monotonic() + TIMEOUT
        while self.open_calls(mode) > 0:
            self.assertLess(time.monotonic(), until, "a call that its client has ended is still open")
            time.sleep(0.01)

    def detail(self, error, kind):
        """The only detail of an error, which has to be of the given kind."""
        # None without grpc-status-details-bin; raises when code or message in
        # there are not those of the call.
        status = rpc_status.from_call(error)
        self.assertIsNotNone(status, "no grpc-status-details-bin")
        (packed,) = status.details
        detail = kind()
        self.assertTrue(packed.Unpack(detail), packed.type_url)
        return detail


class Tutorial(unittest.TestCase):
    def output(self, script, *arguments):
        command = [sys.executable, str(Path(__file__).with_name(script)), server.address, *arguments]
        # Whatever the locale, what is printed here is UTF-8.
        env = {**os.environ, "PYTHONUTF8": "1"}
        run = subprocess.run(command, capture_output=True, encoding="utf-8", env=env, timeout=TIMEOUT)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def test_greeter(self):
        self.assertEqual(self.output("greeter_client.py", "Ana"), "我是Ana\n")
        self.assertEqual(self.output("greeter_client.py", "安娜"), "我是安娜\n")

    def test_stream(self):
        messages = [f"Response message {n}\n" for n in (1, 2, 3, 4)]
        self.assertEqual(self.output("stream_client.py"), "".join(messages))


class Unary(InteropTest):
    def multiply(self, a, b):
        request = unary_pb2.MultiplyRequest(a=a, b=b)
        return UnaryServiceStub(self.channel).Multiply(request, timeout=TIMEOUT).product

    def test_multiply(self):
        self.assertEqual(self.multiply(6, 7), 42)
        self.assertEqual(self.multiply(-(2**63), 1), -(2**63))
        self.assertEqual(self.multiply(0, 5), 0)

    def test_overflow(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.multiply(2**62, 2)
        error = caught.exception
        self.assertEqual(error.code(), grpc.StatusCode.OUT_OF_RANGE)
        # With a character that is percent-encoded on the wire.
        self.assertIn(f"{2**62} × 2", error.details())
        info = self.detail(error, error_details_pb2.ErrorInfo)
        self.assertEqual((info.reason, info.domain), ("INT64_OVERFLOW", "fourmodes"))
        self.assertEqual(dict(info.metadata), {"a": str(2**62), "b": "2"})


class ServerStreaming(InteropTest):
    def watch(self, timeout=TIMEOUT, **request):
        stub = ServerStreamingServiceStub(self.channel)
        return stub.WatchQuotes(server_streaming_pb2.WatchQuotesRequest(**request), timeout=timeout)

    def test_quotes(self):
        call = self.watch(symbols=["ACME"], count=5)
        quotes = [response.quote for response in call]
        # One market for every test: others may have watched it before.
        first = quotes[0].number
        self.assertEqual([quote.number for quote in quotes], list(range(first, first + 5)))
        self.assertEqual({quote.symbol for quote in quotes}, {"ACME"})
        self.assertTrue(all(quote.price_cents > 0 and quote.HasField("time") for quote in quotes))
        self.assertEqual(call.code(), grpc.StatusCode.OK)

    def test_unknown_symbol(self):
        with self.assertRaises(grpc.RpcError) as caught:
            next(self.watch(symbols=["NOPE"]))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        (violation,) = self.detail(caught.exception, error_details_pb2.BadRequest).field_violations
        self.assertEqual(violation.field, "symbols")
        self.assertIn("NOPE", violation.description)

    def test_deadline(self):
        # The deadline is for the call alone, not for the connection.
        grpc.channel_ready_future(self.channel).result(timeout=TIMEOUT)
        begun = time.monotonic()
        call = self.watch(interval=Duration(seconds=1), timeout=0.3)
        with self.assertRaises(grpc.RpcError) as caught:
            for _ in call:
                pass
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertGreater(time.monotonic() - begun, 0.25)
        self.assert_no_open_calls(unary_pb2.MODE_SERVER_STREAMING)

    def test_cancel(self):
        # Without count and interval: as many as flow control allows, for ever.
        call = self.watch()
        sequences = [next(call).quote.sequence for _ in range(3)]
        self.assertEqual(sequences, list(range(sequences[0], sequences[0] + 3)))
        self.assertGreater(self.open_calls(unary_pb2.MODE_SERVER_STREAMING), 0)
        call.cancel()
        self.assertEqual(call.code(), grpc.StatusCode.CANCELLED)
        self.assert_no_open_calls(unary_pb2.MODE_SERVER_STREAMING)


class ClientStreaming(InteropTest):
    def test_readings(self):
        rows = [("oven", 180.0), ("cellar", 11.5), ("oven", float("nan")), ("oven", 184.0)]
        sequences = {"oven": 0, "cellar": 0}
        batches = []
        for line, (device, value) in enumerate(rows, start=1):
            sequences[device] += 1
            reading = client.Reading(time=Timestamp(seconds=60 * line), value=value, line=line)
            batches.append(
                client.RecordReadingsRequest(
                    producer_id="interop", device=device, sequence=sequences[device], readings=[reading]
                )
            )
        batches.append(batches[0])
        response = ClientStreamingServiceStub(self.channel).RecordReadings(iter(batches), timeout=TIMEOUT)

        self.assertEqual((response.count, response.repeated_count, response.refused_count), (3, 1, 1))
        (refused,) = response.refused
        self.assertEqual(refused.line, 3)
        self.assertIn("finite", refused.reason)
        cellar, oven = response.devices
        self.assertEqual((cellar.device, cellar.count, cellar.mean), ("cellar", 1, 11.5))
        self.assertEqual((oven.device, oven.count, oven.accepted_through), ("oven", 2, 3))
        self.assertEqual((oven.min, oven.mean, oven.max), (180.0, 182.0, 184.0))
        self.assertEqual((oven.first_time.seconds, oven.last_time.seconds), (60, 240))


class ByteStream(InteropTest):
    """A client that was written for any ByteStream server."""

    def setUp(self):
        super().setUp()
        self.stub = ByteStreamStub(self.channel)

    def test_upload_and_download(self):
        # BLAKE3 of the empty input, from the paper: the standard library has no BLAKE3.
        blake3 = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        name = f"uploads/{uuid.uuid4()}/blobs/{blake3}/0"
        query = bytestream_pb2.QueryWriteStatusRequest(resource_name=name)
        with self.assertRaises(grpc.RpcError) as caught:
            self.stub.QueryWriteStatus(query, timeout=TIMEOUT)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
        finish = bytestream_pb2.WriteRequest(resource_name=name, finish_write=True)
        written = self.stub.Write(iter([finish]), timeout=TIMEOUT)
        self.assertEqual(written.committed_size, 0)
        read = bytestream_pb2.ReadRequest(resource_name=f"blobs/{blake3}/0")
        data = b"".join(response.data for response in self.stub.Read(read, timeout=TIMEOUT))
        self.assertEqual(data, b"")

    def test_what_is_not_finished_is_no_file(self):
        blake3 = "11" * 32
        name = f"uploads/{uuid.uuid4()}/blobs/{blake3}/4"
        half = bytestream_pb2.WriteRequest(resource_name=name, data=b"ab")
        self.assertEqual(self.stub.Write(iter([half]), timeout=TIMEOUT).committed_size, 2)
        with self.assertRaises(grpc.RpcError) as caught:
            list(self.stub.Read(bytestream_pb2.ReadRequest(resource_name=f"blobs/{blake3}/4"), timeout=TIMEOUT))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
        status = self.stub.QueryWriteStatus(
            bytestream_pb2.QueryWriteStatusRequest(resource_name=name), timeout=TIMEOUT
        )
        self.assertEqual((status.committed_size, status.complete), (2, False))


class Member:
    """The client's end of a Chat call."""

    def __init__(self, channel, room, name):
        self.requests = queue.SimpleQueue()
        # The events that the room has of this member.
        self.accepted = []
        # None ends the iterator, and with it the requests: the half-close.
        requests = iter(self.requests.get, None)
        self.call = BidiStreamingServiceStub(channel).Chat(requests, timeout=TIMEOUT)
        self.requests.put(bidi.ChatRequest(join=bidi.JoinRoom(room=room, name=name)))

    def post(self, text):
        self.requests.put(bidi.ChatRequest(post=bidi.PostText(text=text)))

    def half_close(self):
        self.requests.put(None)

    def hear(self):
        """The next event: its number, who, what and, where there is something, more."""
        return next(self.events())

    def hear_all(self):
        return list(self.events())

    def events(self):
        for response in self.call:
            if response.WhichOneof("response") == "accepted":
                self.accepted.append(response.accepted.sequence)
            else:
                yield self.plain(response.event)

    @staticmethod
    def plain(event):
        kind = event.WhichOneof("event")
        if kind == "joined":
            return event.sequence, event.name, kind, list(event.joined.members)
        if kind == "posted":
            return event.sequence, event.name, kind, event.posted.text
        return event.sequence, event.name, kind


class BidiStreaming(InteropTest):
    def member(self, name):
        # A room for each test, so that none hears the end of another.
        member = Member(self.channel, self.id(), name)
        self.addCleanup(member.half_close)
        return member

    def test_chat(self):
        ana = self.member("ana")
        self.assertEqual(ana.hear(), (1, "ana", "joined", ["ana"]))
        ben = self.member("ben")
        for member in (ana, ben):
            self.assertEqual(member.hear(), (2, "ben", "joined", ["ana", "ben"]))
        ana.post("hello")
        for member in (ana, ben):
            self.assertEqual(member.hear(), (3, "ana", "posted", "hello"))
        ben.post("你好")
        for member in (ana, ben):
            self.assertEqual(member.hear(), (4, "ben", "posted", "你好"))
        # Whoever half-closes hears the own leaving and then OK; the others go on.
        ana.half_close()
        self.assertEqual(ana.hear_all(), [(5, "ana", "left")])
        self.assertEqual(ana.call.code(), grpc.StatusCode.OK)
        self.assertEqual(ben.hear(), (5, "ana", "left"))
        ben.post("alone")
        ben.half_close()
        self.assertEqual(ben.hear_all(), [(6, "ben", "posted", "alone"), (7, "ben", "left")])
        self.assertEqual(ben.call.code(), grpc.StatusCode.OK)
        self.assertEqual((ana.accepted, ben.accepted), ([3], [4, 6]))

    def test_a_cancelled_member_has_left(self):
        ana = self.member("ana")
        ana.hear()
        ben = self.member("ben")
        ben.hear()
        ben.call.cancel()
        self.assertEqual(ben.call.code(), grpc.StatusCode.CANCELLED)
        self.assertEqual(ana.hear(), (2, "ben", "joined", ["ana", "ben"]))
        self.assertEqual(ana.hear(), (3, "ben", "left"))
        ana.half_close()
        self.assertEqual(ana.hear_all(), [(4, "ana", "left")])


class Health(InteropTest):
    def check(self, service):
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(self.channel).Check(request, timeout=TIMEOUT).status

    def test_check(self):
        # The empty name is the server as a whole.
        for service in ["", *sorted(SERVICES)]:
            with self.subTest(service=service):
                self.assertEqual(self.check(service), health_pb2.HealthCheckResponse.SERVING)

    def test_unknown_service(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.check("no.such.Service")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)


class Reflection(InteropTest):
    def ask(self, version, *requests):
        # grpcio has v1alpha only; the messages of v1 are the same.
        call = self.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        questions = [reflection_pb2.ServerReflectionRequest(**request) for request in requests]
        return list(call(iter(questions), timeout=TIMEOUT))

    def test_listing(self):
        for version in ("v1", "v1alpha"):
            with self.subTest(version=version):
                (answer,) = self.ask(version, {"list_services": ""})
                listed = {service.name for service in answer.list_services_response.service}
                own = {"grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"}
                self.assertLessEqual(SERVICES | own, listed)
                # What is listed can be looked up, which tools do next.
                names = sorted(listed)
                answers = self.ask(version, *({"file_containing_symbol": name} for name in names))
                self.assertEqual(len(answers), len(names))
                for name, answer in zip(names, answers):
                    self.assertIn(name, self.services_in(answer.file_descriptor_response))

    @staticmethod
    def services_in(response):
        files = map(descriptor_pb2.FileDescriptorProto.FromString, response.file_descriptor_proto)
        return {
            f"{file.package}.{service.name}".lstrip(".") for file in files for service in file.service
        }


class MutualTls(unittest.TestCase):
    def test_multiply(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        binary = os.environ["FOURMODES_SERVER_BIN"]
        subprocess.run([binary, "certs", "--dir", directory], check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT)
        path = Path(directory)
        files = ["--tls-cert", path / "server.pem", "--tls-key", path / "server-key.pem"]
        secured = Server(*files, "--client-ca", path / "ca.pem")
        self.addCleanup(secured.stop)
        ca, key, cert = ((path / name).read_bytes() for name in ("ca.pem", "client-key.pem", "client.pem"))

        def multiply(credentials):
            address = secured.address.replace("127.0.0.1", "localhost")
            with grpc.secure_channel(address, credentials) as channel:
                request = unary_pb2.MultiplyRequest(a=6, b=7)
                return UnaryServiceStub(channel).Multiply(request, timeout=TIMEOUT).product

        self.assertEqual(multiply(grpc.ssl_channel_credentials(ca, key, cert)), 42)
        with self.assertRaises(grpc.RpcError) as caught:
            multiply(grpc.ssl_channel_credentials(ca))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)


class Check(unittest.TestCase):
    """`fourmodes check`, of a server that knows nothing of it."""

    def test_standard(self):
        script = Path(__file__).with_name("standard_server.py")
        standard = Server(command=[sys.executable, str(script)], env=dict(os.environ))
        self.addCleanup(standard.stop)
        command = [os.environ["FOURMODES_CLIENT_BIN"], "check", f"http://{standard.address}", "--standard"]
        run = subprocess.run(
            [*command, "--output", "json"], capture_output=True, text=True, env=environment(), timeout=5 * TIMEOUT
        )
        checks = [json.loads(line) for line in run.stdout.splitlines()]
        outcomes = {f"{c['group']}/{c['name']}": c for c in checks if c["type"] == "check"}
        # What is true of grpcio, and of a server with nothing but the one service.
        told = {name for name, check in outcomes.items() if check["outcome"] not in ("pass", "skip")}
        extras = {"health", "reflection-v1", "reflection-v1alpha", "grpc-web", "http1"}
        self.assertEqual(told, {"life/keepalive", *(f"extras/{name}" for name in extras)})
        self.assertEqual({outcomes[name]["outcome"] for name in told}, {"warn"})
        self.assertGreaterEqual(sum(c["outcome"] == "pass" for c in outcomes.values()), 15, outcomes.keys())
        self.assertEqual(run.returncode, 0, run.stderr)


if __name__ == "__main__":
    unittest.main()

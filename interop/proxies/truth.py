"""What is true of a path, by clients that share nothing with `check`: grpcio, and frames of HTTP/2 by h2.

    truth.py --url URL [--ca FILE] [--idle SECONDS] CHECK=OUTCOME...

Prints a JSON line for each check: `truth` is whether the path keeps what the check asks for, or null where that is
not known, and `evidence` says by what. Needs the environment of interop/venv.sh.
"""

import argparse
import asyncio
import concurrent.futures
import gzip
import http.client
import json
import queue
import socket
import ssl
import struct
import sys
import threading
import time
import uuid
from pathlib import Path as File
from urllib.parse import urlsplit

import grpc
import grpc.aio
import zstandard
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration

from frames import Connection

sys.path.insert(0, str(File(__file__).resolve().parent.parent.parent / "proto"))
pb, services = grpc.protos_and_services("fourmodes/v1/probe.proto")

# Seconds that a call may take, and that one side waits for the other.
CALL, ANSWER = 30, 3
MIB = 1 << 20
SERVICE = "/fourmodes.v1.ProbeService"
CHECKS = {}


def check(name, *arguments):
    def keep(function):
        CHECKS[name] = lambda path: function(path, *arguments)
        return function

    return keep


class Path:
    def __init__(self, url, ca, idle):
        url = urlsplit(url)
        self.host, self.port, self.idle = url.hostname, url.port, idle
        self.is_tls, self.ca, self.address = url.scheme == "https", ca, url.netloc
        self.credentials = grpc.ssl_channel_credentials(File(ca).read_bytes()) if self.is_tls else None

    def channel(self, of=grpc):
        """A connection of its own."""
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 64 << 10),
            ("grpc.absolute_max_metadata_size", 64 << 10),
            ("grpc.enable_http_proxy", 0),
        ]
        if self.is_tls:
            return of.secure_channel(self.address, self.credentials, options)
        return of.insecure_channel(self.address, options)

    def probe(self):
        return services.ProbeServiceStub(self.channel())

    def dial(self, protocols=()):
        dialled = socket.create_connection((self.host, self.port), ANSWER)
        if not self.is_tls:
            return dialled
        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols(list(protocols))
        return context.wrap_socket(dialled, server_hostname=self.host)

    def frames(self):
        return Connection(self.dial(["h2"]), self.address, "https" if self.is_tls else "http")

    def observe(self, call_id, enough, patience):
        """What the server saw of a call. Another instance may answer: then by another connection."""
        probe, seen, end = self.probe(), None, time.monotonic() + patience
        while True:
            try:
                seen = probe.GetObservation(pb.GetObservationRequest(call_id=call_id), timeout=ANSWER).observation
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.NOT_FOUND:
                    raise
                probe = self.probe()
            if seen is not None and enough(seen) or time.monotonic() > end:
                return seen
            time.sleep(0.02)


def duration(seconds):
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def seconds(it):
    return it.seconds + it.nanos / 1e9


def script(*steps, **rest):
    return pb.Script(steps=steps, **rest)


def payload(size, **rest):
    return pb.Step(payload_bytes=size, **rest)


def every(pause, times):
    return pb.Step(delay=duration(pause), repeat=times, payload_bytes=16)


def echo(times):
    return pb.Step(echo=True, repeat=times)


def ending(code, message="as asked", details=()):
    return pb.Ending(status=pb.EndStatus(code=code, message=message, details=details))


def span(times):
    return times[-1] - times[0]


class Requests:
    """An iterator that is fed."""

    def __init__(self, *first):
        self.queue = queue.Queue()
        for request in first:
            self.queue.put(request)

    def send(self, request):
        self.queue.put(request)

    def end(self):
        self.queue.put(None)

    def __iter__(self):
        return self

    def __next__(self):
        request = self.queue.get()
        if request is None:
            raise StopIteration
        return request


def bidi(of_script=None, **rest):
    return pb.BidiStreamingRequest(script=of_script, **rest)


@check("connect/resolve")
@check("connect/tcp")
@check("connect/tls")
def connected(path):
    path.dial(["h2"]).close()
    return True, "connected"


@check("connect/http2")
def http2(path):
    with path.frames() as connection:
        protocol = connection.socket.selected_alpn_protocol() if path.is_tls else "h2"
        return connection.greet(5) and protocol == "h2", f"protocol {protocol}, SETTINGS {connection.greeted}"


@check("connect/call")
def first_call(path):
    seen = path.probe().Unary(pb.UnaryRequest(), timeout=5).observation
    return seen.http_version == "HTTP/2.0", seen.http_version


@check("connect/round-trip")
def round_trip(path):
    probe, times = path.probe(), []
    for _ in range(6):
        begun = time.monotonic()
        probe.Unary(pb.UnaryRequest(script=script()), timeout=CALL)
        times.append(time.monotonic() - begun)
    return min(times[1:]) < 0.5, f"{min(times[1:]):.4f} s"


@check("modes/unary")
def unary(path):
    answer = path.probe().Unary(pb.UnaryRequest(script=script(payload(1000))), timeout=CALL)
    return len(answer.payload) == 1000, f"{len(answer.payload)} bytes"


@check("modes/server-streaming")
def server_streaming(path):
    request = pb.ServerStreamingRequest(script=script(every(0.15, 5)))
    times = [time.monotonic() for _ in path.probe().ServerStreaming(request, timeout=CALL)]
    return len(times) == 5 and span(times) > 0.3, f"{len(times)} messages over {span(times):.2f} s, sent over 0.60 s"


@check("modes/client-streaming")
def client_streaming(path):
    def requests():
        yield pb.ClientStreamingRequest(script=script())
        for _ in range(4):
            time.sleep(0.15)
            yield pb.ClientStreamingRequest(payload=bytes(16))

    seen = path.probe().ClientStreaming(requests(), timeout=CALL).observation
    times = [seconds(it) for it in seen.arrivals]
    return len(times) == 5 and span(times) > 0.3, f"{len(times)} messages over {span(times):.2f} s, sent over 0.60 s"


@check("modes/full-duplex")
def full_duplex(path):
    requests = Requests(bidi(script(echo(5))))
    call = path.probe().BidiStreaming(requests, timeout=CALL)
    answers = answers_of(call)
    try:
        for number in range(5):
            requests.send(bidi(payload=bytes([number])))
            if answers.get(timeout=ANSWER).payload != bytes([number]):
                return False, f"another answer to {number}"
    except queue.Empty:
        return False, f"no answer to {number} in {ANSWER} s while the request was open"
    finally:
        requests.end()
    return call.code() == grpc.StatusCode.OK, str(call.code())


def answers_of(call):
    """Its messages as they come, by a thread that reads."""
    answers = queue.Queue()

    def read():
        try:
            for answer in call:
                answers.put(answer)
        except grpc.RpcError:
            pass

    threading.Thread(target=read, daemon=True).start()
    return answers


@check("modes/client-ends-first")
def client_ends_first(path):
    told = pb.Ending(after_half_close=pb.AfterHalfClose(with_observation=True))
    answers = list(path.probe().BidiStreaming(iter([bidi(script(every(0.15, 3), ending=told))]), timeout=CALL))
    half_closed, last = seconds(answers[-1].observation.half_closed), seconds(answers[2].sent)
    return half_closed < last, f"the request ended at {half_closed:.3f} s, the last response at {last:.3f} s"


@check("modes/server-ends-first")
def server_ends_first(path):
    requests = Requests(bidi(script(payload(16), ending=ending(0, ""))))
    call = path.probe().BidiStreaming(requests, timeout=ANSWER)
    try:
        return len(list(call)) == 1, "ended while the request was open"
    finally:
        requests.end()


@check("modes/head-first")
def head_first(path):
    begun = time.monotonic()
    call = path.probe().ServerStreaming(pb.ServerStreamingRequest(script=script(every(0.5, 1))), timeout=CALL)
    call.initial_metadata()
    head = time.monotonic() - begun
    next(call)
    message = time.monotonic() - begun
    list(call)
    return message - head > 0.25, f"head after {head:.3f} s, message after {message:.3f} s"


@check("modes/early-answer")
def early_answer(path):
    def requests():
        yield pb.ClientStreamingRequest(script=script(ending=ending(9, "enough")))
        while not over.wait(0.005):
            yield pb.ClientStreamingRequest(payload=bytes(16 << 10))

    over = threading.Event()
    try:
        path.probe().ClientStreaming(requests(), timeout=ANSWER)
        return False, "OK"
    except grpc.RpcError as error:
        return (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "enough"), said(error)
    finally:
        over.set()


def said(error):
    return f"{error.code().name}: {error.details()}"


def refused(path, **rest):
    """The end of a unary call that has nothing but that."""
    call = path.probe().Unary.future(pb.UnaryRequest(script=script(**rest)), timeout=CALL)
    return call.code(), call.details(), {key: value for key, value in call.trailing_metadata() or ()}


@check("status/codes")
def codes(path):
    """Each many times, frame by frame: a path may change one in thirty, and grpcio takes a status from a head that does
    not end the stream, as grpc-go does not."""
    changed = []
    for _ in range(12):
        with path.frames() as connection:
            for code in range(17):
                request = pb.UnaryRequest(script=script(ending=ending(code))).SerializeToString()
                answer = connection.call(f"{SERVICE}/Unary", request, CALL)
                changed += [f"{code}: {answer}"] if answer.status != str(code) else []
    return not changed, f"12 times 17 codes, changed: {changed}"


@check("status/message")
def message(path):
    text = "Grüße, 世界\nund 100 % more\tпока: %41"
    code, came, _ = refused(path, ending=ending(5, text))
    return came == text, f"{code.name}: {came!r}"


@check("status/details")
def details(path):
    sent = [Any(type_url="type.googleapis.com/google.rpc.DebugInfo", value=bytes(2048))]
    code, _, trailers = refused(path, ending=ending(10, details=sent))
    came = trailers.get("grpc-status-details-bin", b"")
    return sent[0].value in came, f"{code.name} with {len(came)} bytes of details"


@check("status/trailers-only")
def trailers_only(path):
    entry = pb.MetadataEntry(key="x-check", text="here")
    code, text, trailers = refused(path, ending=ending(5), trailing_metadata=[entry])
    return (code.name, text, trailers.get("x-check")) == ("NOT_FOUND", "as asked", "here"), f"{code.name} with {trailers}"


@check("status/after-messages")
def after_messages(path):
    request = pb.ServerStreamingRequest(script=script(payload(100, repeat=3), ending=ending(10)))
    count = 0
    try:
        for _ in path.probe().ServerStreaming(request, timeout=CALL):
            count += 1
        return False, f"{count} messages, then OK"
    except grpc.RpcError as error:
        return (count, error.code().name, error.details()) == (3, "ABORTED", "as asked"), f"{count}, then {said(error)}"


@check("status/trailing-metadata")
def trailing_metadata(path):
    entries = [pb.MetadataEntry(key="x-check", text="after all"), pb.MetadataEntry(key="x-check-bin", binary=b"\0\xff\n")]
    request = pb.ServerStreamingRequest(script=script(payload(100), trailing_metadata=entries))
    call = path.probe().ServerStreaming(request, timeout=CALL)
    list(call)
    came = dict(call.trailing_metadata())
    return (came.get("x-check"), came.get("x-check-bin")) == ("after all", b"\0\xff\n"), str(came)


def there_and_back(path, entries):
    """The values of each key at the server, and here."""
    of_script = script(initial_metadata=[entry(key, value) for key, value in entries])
    answer, call = path.probe().Unary.with_call(pb.UnaryRequest(script=of_script), timeout=CALL, metadata=entries)
    there, here = {}, {}
    for it in answer.observation.metadata:
        there.setdefault(it.key, []).append(it.binary if it.key.endswith("-bin") else it.text)
    for key, value in call.initial_metadata():
        here.setdefault(key, []).append(value)
    return there, here


def entry(key, value):
    return pb.MetadataEntry(key=key, **{"binary" if key.endswith("-bin") else "text": value})


@check("metadata/ascii", [("x-check", 'words, punctuation; "quotes" ~!@#$^&*()=+[]{}|<>?/')])
@check("metadata/binary", [("x-check-bin", bytes(range(256)))])
@check("metadata/names", [("x_check_underscore", "here"), ("x.check.dot", "here")])
@check("metadata/8-kib", [(f"x-check-{i}", "v" * 512) for i in range(16)])
def metadata(path, entries):
    there, here = there_and_back(path, entries)
    lost = [f"{key} {where}" for where, came in (("there", there), ("back", here)) for key, value in entries if came.get(key) != [value]]
    return not lost, f"lost: {lost}"


@check("metadata/repeated")
def repeated(path):
    both = there_and_back(path, [("x-check", value) for value in "abc"])
    came = [",".join(values.get("x-check", [])).replace(" ", "") for values in both]
    return came == ["a,b,c"] * 2, f"{came}"


@check("metadata/changes")
def changes(path):
    there, _ = there_and_back(path, [])
    wanted = {"te": "trailers", "content-type": "application/grpc", "user-agent": "grpc-python"}
    lost = [f"{key}: {there.get(key)}" for key, value in wanted.items() if not there.get(key, [""])[0].startswith(value)]
    return not lost, f"changed: {lost}"


@check("control/deadline")
def deadline(path):
    seen = path.probe().Unary(pb.UnaryRequest(script=script()), timeout=20).observation
    came = seconds(seen.deadline) if seen.HasField("deadline") else None
    # grpcio rounds up: 20.001 s is 20.1 s on the wire.
    return came is not None and 10 < came < 21, f"{came} s of 20 s on arrival"


@check("control/no-deadline")
def no_deadline(path):
    seen = path.probe().Unary(pb.UnaryRequest(script=script())).observation
    return not seen.HasField("deadline"), f"{seen.deadline}" if seen.HasField("deadline") else "none"


@check("control/cancel")
def cancel(path):
    call_id = str(uuid.uuid4())
    stalled = script(payload(16), call_id=call_id, ending=pb.Ending(stall=duration(60)))
    probe = path.probe()
    call = probe.ServerStreaming(pb.ServerStreamingRequest(script=stalled))
    next(call)
    begun = time.monotonic()
    call.cancel()
    seen = path.observe(call_id, lambda seen: seen.HasField("cancelled"), 3 * ANSWER)
    if seen is None:
        return None, "another instance answers"
    return seen.HasField("cancelled"), f"cancelled: {seen.HasField('cancelled')}, looked at for {time.monotonic() - begun:.2f} s"


@check("control/reset")
def reset(path):
    sent, came = [1, 2, 7, 8, 11], []
    for code in sent:
        with path.frames() as connection:
            request = pb.ServerStreamingRequest(script=script(payload(16), ending=pb.Ending(reset_code=code)))
            answer = connection.call(f"{SERVICE}/ServerStreaming", request.SerializeToString(), CALL)
            came.append(answer.reset if answer.reset is not None else f"no reset, status {answer.status}")
    return came == sent, f"{sent} came as {came}"


@check("control/60-cancels")
def cancels(path):
    with path.frames() as connection:
        stalled = script(payload(16), ending=pb.Ending(stall=duration(60)))
        message = pb.ServerStreamingRequest(script=stalled).SerializeToString()
        connection.greet(5)
        count = min(60, connection.h2.remote_settings.max_concurrent_streams)
        streams = [connection.ask(f"{SERVICE}/ServerStreaming", message) for _ in range(count)]
        connection.until(lambda: all(connection.answers[stream].data for stream in streams), ANSWER)
        for stream in streams:
            connection.cancel(stream)
        answer = connection.call(f"{SERVICE}/Unary", pb.UnaryRequest(script=script()).SerializeToString(), ANSWER)
        return answer.status == "0", f"{count} calls cancelled, then one: {answer}"


def carried(path, method, request, size, of, largest):
    begun, probe = time.monotonic(), path.probe()
    limit = probe.Unary(pb.UnaryRequest(script=script()), timeout=CALL).observation.limits.max_stream_message_bytes
    try:
        came = of(getattr(probe, method)(request, timeout=CALL))
    except grpc.RpcError as error:
        # The server's own limit is none of the path.
        is_limit = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and largest > limit
        return is_limit, f"{said(error)}; the server takes {limit} bytes"
    return came >= size, f"{came} bytes of {size} in {time.monotonic() - begun:.2f} s"


def received(answer):
    return answer.observation.bytes_received


def downloaded(answers):
    return sum(len(answer.payload) for answer in answers)


for mib in 1, 4, 16:

    @check(f"flow/{mib}-mib-up", mib * MIB - 64)
    def up(path, size):
        requests = iter([pb.ClientStreamingRequest(script=script()), pb.ClientStreamingRequest(payload=bytes(size))])
        return carried(path, "ClientStreaming", requests, size, received, size)

    @check(f"flow/{mib}-mib-down", mib * MIB - 64)
    def down(path, size):
        request = pb.ServerStreamingRequest(script=script(payload(size)))
        return carried(path, "ServerStreaming", request, size, downloaded, size)


@check("flow/long-upload")
def long_upload(path):
    pieces = [pb.ClientStreamingRequest(script=script())] + [pb.ClientStreamingRequest(payload=bytes(MIB - 64))] * 20
    return carried(path, "ClientStreaming", iter(pieces), 20 * (MIB - 64), received, MIB)


@check("flow/long-download")
def long_download(path):
    request = pb.ServerStreamingRequest(script=script(payload(MIB - 64, repeat=20)))
    return carried(path, "ServerStreaming", request, 20 * (MIB - 64), downloaded, MIB)


@check("flow/streams")
def streams(path):
    return asyncio.run(streams_at_once(path))


async def streams_at_once(path):
    probe = services.ProbeServiceStub(path.channel(grpc.aio))
    seen = (await probe.Unary(pb.UnaryRequest(script=script()), timeout=CALL)).observation
    allowed = min(seen.limits.max_concurrent_streams, 1000)
    open_, release = [0], asyncio.Event()

    async def one():
        call = probe.BidiStreaming(timeout=CALL)
        await call.write(bidi(script(echo(1))))
        await call.write(bidi(payload=b"here"))
        if await call.read() is not grpc.aio.EOF:
            open_[0] += 1
            await release.wait()
        await call.done_writing()
        return await call.code()

    calls = [asyncio.ensure_future(one()) for _ in range(allowed + 1)]
    last, since = -1, time.monotonic()
    # One more has to wait, unless the path has several connections to the server.
    while open_[0] <= allowed and time.monotonic() - since < (0.3 if open_[0] == allowed else 1.5):
        if open_[0] != last:
            last, since = open_[0], time.monotonic()
        await asyncio.sleep(0.02)
    at_once = open_[0]
    release.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    lost = [str(it) for it in ended if it != grpc.StatusCode.OK]
    return at_once >= allowed and not lost, f"{at_once} at once, the server allows {allowed}, {len(lost)} lost {lost[:1]}"


@check("flow/slow-client")
def slow_client(path):
    """Two that read no more, after much that was read: what they hold is nobody else's."""
    call_id, all_of_it = str(uuid.uuid4()), 64 * MIB
    long_download(path)
    calls = []
    for it in str(uuid.uuid4()), call_id:
        request = pb.ServerStreamingRequest(script=script(payload(32 << 10, repeat=2048), call_id=it))
        calls.append(path.probe().ServerStreaming(request, timeout=CALL))
        next(calls[-1])
    last, since = 0, time.monotonic()
    while time.monotonic() - since < 1:
        seen = path.observe(call_id, lambda _: True, ANSWER)
        if seen is None:
            return None, "another instance answers"
        if seen.bytes_sent > last:
            last, since = seen.bytes_sent, time.monotonic()
        if last >= all_of_it:
            break
        time.sleep(0.05)
    for call in calls:
        call.cancel()
    return last < all_of_it, f"the server sent {last} bytes of {all_of_it} that nobody read"


@check("flow/slow-server")
def slow_server(path):
    def requests():
        yield pb.ClientStreamingRequest(script=script(read_delay=duration(60)))
        while sent[0] < all_of_it:
            yield pb.ClientStreamingRequest(payload=bytes(32 << 10))
            sent[0], since[0] = sent[0] + (32 << 10), time.monotonic()

    all_of_it, sent, since = 64 * MIB, [0], [time.monotonic()]
    call = path.probe().ClientStreaming.future(requests())
    while sent[0] < all_of_it and time.monotonic() - since[0] < 1.5 and not call.done():
        time.sleep(0.02)
    if call.done():
        return False, f"{call.code()}: {call.details()}"
    call.cancel()
    return sent[0] < all_of_it, f"the client sent {sent[0]} bytes of {all_of_it} that nobody read"


@check("flow/gzip", "gzip", gzip.compress, gzip.decompress)
@check("flow/zstd", "zstd", zstandard.compress, lambda it: zstandard.ZstdDecompressor().decompressobj().decompress(it))
def compressed(path, name, compress, decompress):
    step = payload(32 << 10, compressible=True)
    message = pb.UnaryRequest(script=script(step), payload=bytes(32 << 10)).SerializeToString()
    with path.frames() as connection:
        headers = [("grpc-encoding", name), ("grpc-accept-encoding", f"identity,{name}")]
        answer = connection.call(f"{SERVICE}/Unary", compress(message), ANSWER, headers, flag=1)
    back, there = dict(answer.head).get("grpc-encoding", "identity"), None
    if answer.status == "0":
        data = answer.data[5:]
        answered = pb.UnaryResponse.FromString(decompress(data) if answer.data[0] else data)
        there = answered.observation.encoding
    return (there, back) == (name, name), f"{there} there, {back} back, {answer}"


@check("life/1200-calls")
def many_calls(path):
    """Four at a time on one channel, which goes to another connection when one ends in order."""
    probe = path.probe()

    def some(_):
        for _ in range(300):
            probe.Unary(pb.UnaryRequest(script=script()), timeout=CALL)
        return 300

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return sum(pool.map(some, range(4))) == 1200, "1200 calls"


@check("life/empty-frames")
def empty_frames(path):
    with path.frames() as connection:
        message = pb.UnaryRequest(script=script()).SerializeToString()
        streams = [connection.ask(f"{SERVICE}/Unary", message) for _ in range(16)]
        answers = [connection.wait(stream, ANSWER) for stream in streams]
        ended = sum(answer.status == "0" for answer in answers)
        return connection.empty == 0 and ended == 16, f"{connection.empty} empty DATA frames with {ended} of 16 answers"


@check("life/idle")
def idle(path):
    begun, requests = time.monotonic(), Requests(bidi(script(payload(16), every(path.idle, 1), echo(1))))
    call = path.probe().BidiStreaming(requests, timeout=path.idle + 10)
    try:
        next(call), next(call)
        requests.send(bidi(payload=b"awake"))
        next(call)
        requests.end()
        return next(call, None) is None, f"alive after {time.monotonic() - begun:.1f} s"
    except grpc.RpcError as error:
        return False, f"{said(error)} after {time.monotonic() - begun:.1f} s"
    finally:
        requests.end()


@check("life/lasting")
def lasting(path):
    begun, beats = time.monotonic(), int(path.idle / 0.25)
    request = pb.ServerStreamingRequest(script=script(every(0.25, beats)))

    def busy():
        requests = Requests(bidi(script(echo(beats))))
        call = path.probe().BidiStreaming(requests, timeout=path.idle + 10)
        try:
            for _ in range(beats):
                time.sleep(0.25)
                requests.send(bidi(payload=b"beat"))
                next(call)
        finally:
            requests.end()
        return next(call, None) is None

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        talk = pool.submit(busy)
        count = len(list(path.probe().ServerStreaming(request, timeout=path.idle + 10)))
        return count == beats and talk.result(), f"{count} messages of {beats} in {time.monotonic() - begun:.1f} s"


@check("life/keepalive")
def keepalive(path):
    with path.frames() as connection:
        for number in range(1, 6):
            if not connection.ping(2):
                if connection.goaway == 0:
                    return None, f"the connection ended in order at PING {number}"
                return False, f"PING {number}: GOAWAY {connection.goaway}, closed {connection.closed}"
            time.sleep(1)
    return True, "5 PINGs answered, one a second"


def instances(path, connections, calls):
    answered = []
    for _ in range(connections):
        probe = path.probe()
        answered += [probe.Unary(pb.UnaryRequest(script=script()), timeout=ANSWER).observation.instance_id for _ in range(calls)]
    return len(set(answered))


@check("balance/connections")
def connections(path):
    return True, f"{instances(path, 8, 1)} instances over 8 connections"


@check("balance/calls")
def calls(path):
    here = instances(path, 1, 16)
    everywhere = instances(path, 8, 1)
    return here > 1 or everywhere == 1, f"{here} instances over 1 connection, {everywhere} over 8"


@check("extras/health", "/grpc.health.v1.Health/Check", b"", b"\x08\x01")
@check("extras/reflection-v1", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"\x3a\0", SERVICE[1:].encode())
@check("extras/reflection-v1alpha", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", b"\x3a\0", SERVICE[1:].encode())
def standard(path, method, message, wanted):
    with path.channel() as channel:
        answer = b"".join(channel.stream_stream(method)(iter([message]), timeout=CALL))
    return wanted in answer, f"{len(answer)} bytes"


def by_http1(path, verb, target, body, headers):
    if path.is_tls:
        context = ssl.create_default_context(cafile=path.ca)
        context.set_alpn_protocols(["http/1.1"])
        connection = http.client.HTTPSConnection(path.host, path.port, timeout=ANSWER, context=context)
    else:
        connection = http.client.HTTPConnection(path.host, path.port, timeout=ANSWER)
    try:
        connection.request(verb, target, body, headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


@check("extras/http1")
def http1(path):
    return True, f"HTTP {by_http1(path, 'GET', '/', None, {})[0].status}"


@check("extras/grpc-web")
def grpc_web(path):
    message = pb.UnaryRequest(script=script(payload(100))).SerializeToString()
    headers = {"content-type": "application/grpc-web+proto", "accept": "application/grpc-web+proto", "x-grpc-web": "1"}
    answer, body = by_http1(path, "POST", f"{SERVICE}/Unary", b"\0" + struct.pack(">I", len(message)) + message, headers)
    return answer.status == 200 and b"grpc-status:0" in body.replace(b" ", b"").lower(), f"HTTP {answer.status}, {body[-60:]!r}"


def carried_out(path, messages=1, **wrong):
    message = pb.UnaryRequest(script=script()).SerializeToString()
    with path.frames() as connection:
        stream = connection.ask(f"{SERVICE}/Unary", *[message] * messages, **wrong)
        return connection.wait(stream, ANSWER)


@check("rules/content-type", [{"content_type": "application/json"}, {"content_type": "text/plain"}])
@check("rules/method", [{"verb": "GET"}, {"verb": "PUT"}])
@check("rules/message-count", [{"messages": 0}, {"messages": 2}])
def rules(path, wrongs):
    answers = [carried_out(path, **wrong) for wrong in wrongs]
    return all(answer.status != "0" for answer in answers), f"{wrongs}: {[str(it) for it in answers]}"


def find_out(path, wanted):
    """What is not as `check` has it is asked for three times: a path may be now one and now the other, and a machine
    that is busy looks like a path that is slow."""
    name, outcome = wanted.split("=")
    found = ask(path, name)
    if found["truth"] not in (None, outcome == "pass"):
        again = [found, ask(path, name), ask(path, name)]
        truths = [it["truth"] for it in again]
        found = next(it for it in again if truths.count(it["truth"]) > 1 or len(set(truths)) == 3)
    return found


def ask(path, name):
    try:
        truth, evidence = CHECKS[name](path) if name in CHECKS else (None, "no client here asks for it")
    except grpc.RpcError as error:
        truth, evidence = False, said(error)
    except (OSError, http.client.HTTPException, StopIteration) as error:
        truth, evidence = False, repr(error)
    return {"check": name, "truth": truth, "evidence": evidence}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--ca")
    parser.add_argument("--idle", type=float, default=3)
    parser.add_argument("checks", nargs="*")
    options = parser.parse_args()
    path = Path(options.url, options.ca, options.idle)
    # What takes all there is runs alone.
    heavy = [it for it in options.checks if it.startswith(("flow/", "life/1200-calls"))]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda it: find_out(path, it), [it for it in options.checks if it not in heavy]):
            print(json.dumps(found), flush=True)
    for it in heavy:
        print(json.dumps(find_out(path, it)), flush=True)


if __name__ == "__main__":
    main()

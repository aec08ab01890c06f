"""The interop cases of gRPC with grpcio, whose own program for them is on no registry.

    grpcio_client.py DESCRIPTORS ADDRESS [CA NAME]

Prints a line for each case.
"""

import queue
import sys
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

descriptors, address, *tls = sys.argv[1:]
pool = descriptor_pool.DescriptorPool()
for file in descriptor_pb2.FileDescriptorSet.FromString(Path(descriptors).read_bytes()).file:
    pool.Add(file)
options = [("grpc.max_receive_message_length", -1)]
if tls:
    credentials = grpc.ssl_channel_credentials(Path(tls[0]).read_bytes())
    channel = grpc.secure_channel(address, credentials, [*options, ("grpc.ssl_target_name_override", tls[1])])
else:
    channel = grpc.insecure_channel(address, options)

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
SIZES = [31415, 9, 2653, 58979]
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


def method(name, service="TestService"):
    """The method as grpcio has it, and how its request is made."""
    found = pool.FindServiceByName(f"grpc.testing.{service}").FindMethodByName(name)
    request, response = (message_factory.GetMessageClass(it) for it in (found.input_type, found.output_type))
    sides = ("stream" if it else "unary" for it in (found.client_streaming, found.server_streaming))
    make = getattr(channel, "_".join(sides))
    path = f"/grpc.testing.{service}/{name}"
    return make(path, request_serializer=request.SerializeToString, response_deserializer=response.FromString), request


def unary(name, fields=None, service="TestService", **more):
    call, request = method(name, service)
    return call(request(**(fields or {})), **more)


def stream(name, requests, **more):
    call, request = method(name)
    return call((request(**fields) for fields in requests), **more)


def parameters(size, interval_us=0):
    return {"response_parameters": [{"size": size, "interval_us": interval_us}]}


def payload(size):
    return {"payload": {"body": bytes(size)}}


def lengths(responses):
    return [len(response.payload.body) for response in responses]


def fails(code, call, message=None):
    try:
        list(call()) if callable(call) else list(call)
    except grpc.RpcError as error:
        assert error.code() == code and message in (None, error.details()), error
        return
    raise AssertionError("it succeeds")


def empty_unary():
    unary("EmptyCall")


def large_unary():
    response = unary("UnaryCall", {"response_size": 314159, **payload(271828)})
    assert len(response.payload.body) == 314159


def client_streaming():
    response = stream("StreamingInputCall", (payload(size) for size in (27182, 8, 1828, 45904)))
    assert response.aggregated_payload_size == 74922


def server_streaming():
    asked = {"response_parameters": [{"size": size} for size in SIZES]}
    assert lengths(unary("StreamingOutputCall", asked)) == SIZES


def ping_pong():
    requests = queue.SimpleQueue()
    responses = stream("FullDuplexCall", iter(requests.get, None))
    for size in SIZES:
        requests.put(parameters(size))
        assert len(next(responses).payload.body) == size
    requests.put(None)
    assert list(responses) == []


def empty_stream():
    assert list(stream("FullDuplexCall", [])) == []


def custom_metadata():
    sent = [(INITIAL, "test"), (TRAILING, b"\xab\xab\xab")]
    call, request = method("UnaryCall")
    _, answered = call.with_call(request(response_size=9), metadata=sent)
    duplex = stream("FullDuplexCall", [parameters(9)], metadata=sent)
    assert lengths(duplex) == [9]
    for seen in (answered, duplex):
        assert dict(seen.initial_metadata())[INITIAL] == "test"
        assert dict(seen.trailing_metadata())[TRAILING] == b"\xab\xab\xab"


def status_code_and_message():
    asked = {"response_status": {"code": 2, "message": "test status message"}}
    fails(grpc.StatusCode.UNKNOWN, lambda: unary("UnaryCall", asked), "test status message")
    fails(grpc.StatusCode.UNKNOWN, stream("FullDuplexCall", [asked]), "test status message")


def special_status_message():
    asked = {"response_status": {"code": 2, "message": SPECIAL}}
    fails(grpc.StatusCode.UNKNOWN, lambda: unary("UnaryCall", asked), SPECIAL)


def unimplemented_method():
    fails(grpc.StatusCode.UNIMPLEMENTED, lambda: unary("UnimplementedCall"))


def unimplemented_service():
    fails(grpc.StatusCode.UNIMPLEMENTED, lambda: unary("UnimplementedCall", service="UnimplementedService"))


def cancel_after_begin():
    call, _ = method("StreamingInputCall")
    begun = call.future(iter([]))
    begun.cancel()
    assert begun.cancelled() and begun.code() == grpc.StatusCode.CANCELLED


def cancel_after_first_response():
    responses = stream("FullDuplexCall", [parameters(31415), parameters(9, 5_000_000)])
    assert len(next(responses).payload.body) == 31415
    responses.cancel()
    fails(grpc.StatusCode.CANCELLED, responses)


def timeout_on_sleeping_server():
    fails(grpc.StatusCode.DEADLINE_EXCEEDED, stream("FullDuplexCall", [parameters(9, 5_000_000)], timeout=0.05))


for case in (
    *(empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream, custom_metadata),
    *(status_code_and_message, special_status_message, unimplemented_method, unimplemented_service),
    *(cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server),
):
    try:
        case()
        print(case.__name__, "ok")
    except Exception as error:
        print(case.__name__, type(error).__name__, str(error).replace("\n", " "))

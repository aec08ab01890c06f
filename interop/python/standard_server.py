"""grpc.testing.TestService as somebody else would serve it, with grpcio.

Its first line is its address. Its arguments are the port, and for TLS the files of the certificate and of the key.
FOURMODES_DESCRIPTORS names the descriptors: the generated modules would be called like grpcio itself.
"""

import os
import signal
import sys
import time
from concurrent import futures
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"

descriptors = descriptor_pb2.FileDescriptorSet.FromString(Path(os.environ["FOURMODES_DESCRIPTORS"]).read_bytes())
pool = descriptor_pool.DescriptorPool()
for file in descriptors.file:
    pool.Add(file)
service = pool.FindServiceByName("grpc.testing.TestService")


def message(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"grpc.testing.{name}"))


Empty, SimpleResponse = message("Empty"), message("SimpleResponse")
StreamingInputCallResponse, StreamingOutputCallResponse = (
    message("StreamingInputCallResponse"),
    message("StreamingOutputCallResponse"),
)


def echo_metadata(context):
    received = dict(context.invocation_metadata())
    if INITIAL in received:
        context.send_initial_metadata([(INITIAL, received[INITIAL])])
    if TRAILING in received:
        context.set_trailing_metadata([(TRAILING, received[TRAILING])])


def end_as_asked(request, context):
    status = request.response_status
    if status.code:
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        context.abort(code, status.message)


def payload(size):
    return {"body": bytes(size)}


def empty_call(request, context):
    echo_metadata(context)
    return Empty()


def unary_call(request, context):
    echo_metadata(context)
    end_as_asked(request, context)
    return SimpleResponse(payload=payload(request.response_size))


def outputs(request, context):
    for parameters in request.response_parameters:
        time.sleep(parameters.interval_us / 1e6)
        yield StreamingOutputCallResponse(payload=payload(parameters.size))
    end_as_asked(request, context)


def streaming_output_call(request, context):
    echo_metadata(context)
    yield from outputs(request, context)


def streaming_input_call(requests, context):
    echo_metadata(context)
    size = sum(len(request.payload.body) for request in requests)
    return StreamingInputCallResponse(aggregated_payload_size=size)


def full_duplex_call(requests, context):
    echo_metadata(context)
    for request in requests:
        yield from outputs(request, context)


def half_duplex_call(requests, context):
    echo_metadata(context)
    for request in list(requests):
        yield from outputs(request, context)


def handlers():
    behaviours = {
        "EmptyCall": empty_call,
        "UnaryCall": unary_call,
        "StreamingOutputCall": streaming_output_call,
        "StreamingInputCall": streaming_input_call,
        "FullDuplexCall": full_duplex_call,
        "HalfDuplexCall": half_duplex_call,
    }
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    for name, behaviour in behaviours.items():
        method = service.methods_by_name[name]
        made = kinds[method.client_streaming, method.server_streaming](
            behaviour,
            request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
            response_serializer=message_factory.GetMessageClass(method.output_type).SerializeToString,
        )
        yield name, made


def main():
    # Every open stream takes a thread.
    server = grpc.server(futures.ThreadPoolExecutor(64), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service.full_name, dict(handlers()))]
    )
    address = f"127.0.0.1:{sys.argv[1] if sys.argv[1:] else 0}"
    if sys.argv[3:]:
        certificate, key = (open(name, "rb").read() for name in sys.argv[2:4])
        port = server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    else:
        port = server.add_insecure_port(address)
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()

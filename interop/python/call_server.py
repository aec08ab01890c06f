"""The services of interop/call as somebody else would serve them, with grpcio and its reflection.

Its first line is its address. FOURMODES_CALL_DESCRIPTORS names the descriptors. With an argument it
has no reflection.
"""

import os
import signal
import sys
from concurrent import futures
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection

descriptors = descriptor_pb2.FileDescriptorSet.FromString(
    Path(os.environ["FOURMODES_CALL_DESCRIPTORS"]).read_bytes()
)
pool = descriptor_pool.DescriptorPool()
for file in descriptors.file:
    pool.Add(file)


def last(requests):
    *_, last = requests
    return last


BEHAVIOURS = {
    (False, False): (grpc.unary_unary_rpc_method_handler, lambda request, _: request),
    (False, True): (grpc.unary_stream_rpc_method_handler, lambda request, _: iter([request, request])),
    (True, False): (grpc.stream_unary_rpc_method_handler, lambda requests, _: last(requests)),
    (True, True): (grpc.stream_stream_rpc_method_handler, lambda requests, _: requests),
}


def handlers(service):
    for method in service.methods:
        made, behaviour = BEHAVIOURS[method.client_streaming, method.server_streaming]
        kind = message_factory.GetMessageClass(method.input_type)
        yield method.name, made(behaviour, kind.FromString, kind.SerializeToString)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    names = ["odd.import.Odd", "Bare"]
    for name in names:
        service = pool.FindServiceByName(name)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, dict(handlers(service)))])
    if len(sys.argv) == 1:
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server, pool)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()

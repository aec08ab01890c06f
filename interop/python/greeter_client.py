"""The unary client of a first gRPC tutorial."""

import sys

import grpc

import greeter_pb2
import greeter_pb2_grpc


def main(address, name):
    with grpc.insecure_channel(address) as channel:
        greeter = greeter_pb2_grpc.GreeterStub(channel)
        response = greeter.SayHello(greeter_pb2.HelloRequest(name=name), timeout=5)
        print(response.name)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: greeter_client.py ADDRESS NAME")
    main(*sys.argv[1:])

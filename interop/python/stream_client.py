"""The server streaming client of a first gRPC tutorial."""

import sys

import grpc

import streaming_demo_pb2
import streaming_demo_pb2_grpc


def main(address):
    with grpc.insecure_channel(address) as channel:
        service = streaming_demo_pb2_grpc.StreamServiceStub(channel)
        request = streaming_demo_pb2.RequestMessage(client_request="Request message")
        for response in service.ServerStreaming(request, timeout=5):
            print(response.server_response)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: stream_client.py ADDRESS")
    main(*sys.argv[1:])

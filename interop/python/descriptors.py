"""Writes the descriptors of all that the clients in interop/ call, as one set."""

import sys
from pathlib import Path

from google.protobuf import descriptor_pb2, text_format
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2 as reflection_v1alpha

from fourmodes.v1 import bidi_streaming_pb2, client_streaming_pb2, server_streaming_pb2, unary_pb2

MODULES = [
    bidi_streaming_pb2,
    client_streaming_pb2,
    error_details_pb2,
    health_pb2,
    reflection_v1alpha,
    server_streaming_pb2,
    status_pb2,
    unary_pb2,
]

files = {}


def parsed(file):
    return descriptor_pb2.FileDescriptorProto.FromString(file)


def add(file):
    """After what it imports, as a set has to be."""
    for imported in file.dependencies:
        add(imported)
    files.setdefault(file.name, file.serialized_pb)


for module in MODULES:
    add(module.DESCRIPTOR)

# The package has v1alpha alone; v1 is the same under another name.
alpha = text_format.MessageToString(parsed(reflection_v1alpha.DESCRIPTOR.serialized_pb))
v1 = text_format.Parse(alpha.replace("v1alpha", "v1"), descriptor_pb2.FileDescriptorProto())

descriptors = descriptor_pb2.FileDescriptorSet(file=[*map(parsed, files.values()), v1])
Path(sys.argv[1]).write_bytes(descriptors.SerializeToString())

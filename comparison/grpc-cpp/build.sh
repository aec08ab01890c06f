#!/usr/bin/env bash
# Builds the server of gRPC C++: `build.sh PROGRAM`. On Debian it needs: apt-get install g++ pkg-config libgrpc++-dev
# libprotobuf-dev protobuf-compiler protobuf-compiler-grpc.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
generated=$1.d
mkdir -p "$generated"
plugin=$(command -v grpc_cpp_plugin) || { echo "grpc_cpp_plugin is missing; on Debian: apt-get install protobuf-compiler-grpc" >&2; exit 1; }
protoc -I "$here/../../proto" --plugin=protoc-gen-grpc="$plugin" --cpp_out="$generated" --grpc_out="$generated" \
    fourmodes/v1/measure.proto
read -ra flags <<<"$(pkg-config --cflags --libs grpc++ protobuf)"
"${CXX:-c++}" -std=c++17 -O2 -I "$generated" -o "$1" "$here/main.cc" "$generated"/fourmodes/v1/*.cc "${flags[@]}"
pkg-config --modversion grpc++ >"$1.version"

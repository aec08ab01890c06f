#!/usr/bin/env bash
# Builds the server of grpc-go: `build.sh PROGRAM`. Needs Go 1.26 or later and Python 3 (for protoc).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
mkdir -p "$(dirname "$1")/go-bin"
bin=$(cd "$(dirname "$1")/go-bin" && pwd)
GOBIN=$bin go install google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
options=("Mfourmodes/v1/measure.proto=comparison-grpc/measure" module=comparison-grpc)
PATH=$bin:$PATH "$(bash ../../interop/venv.sh)/bin/python" -m grpc_tools.protoc -I ../../proto \
    --go_out=. --go-grpc_out=. "${options[@]/#/--go_opt=}" "${options[@]/#/--go-grpc_opt=}" \
    fourmodes/v1/measure.proto
go build -o "$1" .
go list -m -f '{{.Version}}' google.golang.org/grpc | sed 's/^v//' >"$1.version"

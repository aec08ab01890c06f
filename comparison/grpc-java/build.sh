#!/usr/bin/env bash
# Builds the server of grpc-java: `build.sh PROGRAM`. Needs a JDK of version 17 or later and Maven.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1.d"
out=$(cd "$1.d" && pwd)
rm -rf "$out/lib"
mvn --batch-mode --quiet --file "$here/pom.xml" -Dout="$out" compile dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$out/lib"
# The same process becomes Java: its CPU time is the server's.
printf '%s\n' '#!/bin/sh' 'exec java -cp "$0.d/classes:$0.d/lib/*" Main "$@"' >"$1"
chmod +x "$1"
basename "$out"/lib/grpc-api-*.jar .jar | sed 's/grpc-api-//' >"$1.version"

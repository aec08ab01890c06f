# The server as a small image, to put it at the end of a path that you want to check:
#
#   docker build --tag fourmodes .
#   docker run --rm --publish 50051:50051 fourmodes
#
# UNTRIED where it was written: there was no container engine. `.ci/image` builds and
# starts it, and CI runs that.

FROM rust:1-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked -p server -p client && mkdir /data

FROM debian:bookworm-slim
# The client of the health check trusts the platform's CAs.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -r /var/lib/apt/lists/*
COPY --from=build /source/target/release/fourmodes-server /source/target/release/fourmodes /usr/local/bin/
# A new volume takes the owner of the directory that it covers.
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532

ENV FOURMODES_LISTEN=0.0.0.0:50051 FOURMODES_DATA_DIR=/data
VOLUME /data
EXPOSE 50051

# A call, from the inside. With TLS or tokens, set FOURMODES_SERVER, FOURMODES_CA or
# FOURMODES_TOKEN for it. It asks the unary mode: where another mode is served alone,
# replace it. Kubernetes asks grpc.health.v1 by itself (`livenessProbe.grpc`).
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["/usr/local/bin/fourmodes", "unary", "status", "--quiet", "--deadline", "3s"]

ENTRYPOINT ["/usr/local/bin/fourmodes-server"]
CMD ["all"]

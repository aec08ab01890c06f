//! Compiles the protos: Rust code for both sides, and a descriptor set for
//! reflection and for the client's timeline.

use prost::Message as _;

const PROTOS: [&str; 10] = [
    "fourmodes/v1/task.proto",
    "fourmodes/v1/unary.proto",
    "fourmodes/v1/server_streaming.proto",
    "fourmodes/v1/client_streaming.proto",
    "fourmodes/v1/bidi_streaming.proto",
    "fourmodes/v1/probe.proto",
    "google/bytestream/bytestream.proto",
    "grpc/testing/test.proto",
    "tutorial/greeter.proto",
    "tutorial/streaming_demo.proto",
];

/// What stays in the buffer it arrived in, or is sent many times.
const BYTES: [&str; 10] = [
    ".google.bytestream",
    ".grpc.testing.Payload",
    ".fourmodes.v1.UnaryRequest",
    ".fourmodes.v1.UnaryResponse",
    ".fourmodes.v1.ServerStreamingRequest",
    ".fourmodes.v1.ServerStreamingResponse",
    ".fourmodes.v1.ClientStreamingRequest",
    ".fourmodes.v1.ClientStreamingResponse",
    ".fourmodes.v1.BidiStreamingRequest",
    ".fourmodes.v1.BidiStreamingResponse",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo::rerun-if-changed={root}");
    let descriptors = protox::compile(PROTOS, [root])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    BYTES
        .iter()
        .fold(tonic_prost_build::configure(), |builder, path| builder.bytes(path))
        .compile_fds(descriptors)?;
    Ok(())
}

//! Compiles the protos: Rust code for both sides, and a descriptor set for
//! reflection and for the client's timeline.

use prost::Message as _;

const PROTOS: [&str; 12] = [
    "fourmodes/v1/task.proto",
    "fourmodes/v1/unary.proto",
    "fourmodes/v1/server_streaming.proto",
    "fourmodes/v1/client_streaming.proto",
    "fourmodes/v1/bidi_streaming.proto",
    "fourmodes/v1/probe.proto",
    "fourmodes/v1/measure.proto",
    "fourmodes/v1/servers.proto",
    "google/bytestream/bytestream.proto",
    "grpc/testing/test.proto",
    "tutorial/greeter.proto",
    "tutorial/streaming_demo.proto",
];

/// What stays in the buffer it arrived in, or is sent many times.
const BYTES: [&str; 18] = [
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
    ".fourmodes.v1.MeasureUnaryRequest",
    ".fourmodes.v1.MeasureUnaryResponse",
    ".fourmodes.v1.MeasureServerStreamingRequest",
    ".fourmodes.v1.MeasureServerStreamingResponse",
    ".fourmodes.v1.MeasureClientStreamingRequest",
    ".fourmodes.v1.MeasureClientStreamingResponse",
    ".fourmodes.v1.MeasureBidiStreamingRequest",
    ".fourmodes.v1.MeasureBidiStreamingResponse",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo::rerun-if-changed={root}");
    let descriptors = protox::compile(PROTOS, [root])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    BYTES
        .iter()
        .fold(tonic_prost_build::configure().codec_path("crate::codec::Codec"), |builder, path| {
            builder.bytes(path)
        })
        .compile_fds(descriptors)?;
    Ok(())
}

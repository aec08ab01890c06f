//! Compiles the protos: Rust code for both sides, and a descriptor set for
//! reflection and for the client's timeline.

use prost::Message as _;

const PROTOS: [&str; 9] = [
    "fourmodes/v1/task.proto",
    "fourmodes/v1/unary.proto",
    "fourmodes/v1/server_streaming.proto",
    "fourmodes/v1/client_streaming.proto",
    "fourmodes/v1/bidi_streaming.proto",
    "fourmodes/v1/probe.proto",
    "google/bytestream/bytestream.proto",
    "tutorial/greeter.proto",
    "tutorial/streaming_demo.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo::rerun-if-changed={root}");
    let descriptors = protox::compile(PROTOS, [root])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // What a file is made of stays in the buffer it arrived in.
    tonic_prost_build::configure().bytes(".google.bytestream").compile_fds(descriptors)?;
    Ok(())
}

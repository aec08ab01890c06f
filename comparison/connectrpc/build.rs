//! Generates the service without protoc.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (file, root) = ("fourmodes/v1/measure.proto", "../../proto");
    println!("cargo::rerun-if-changed={root}/{file}");
    let set = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("measure.bin");
    std::fs::write(&set, protox::compile([file], [root])?.encode_to_vec())?;
    let config = connectrpc_build::Config::new().files(&[file]).descriptor_set(set);
    Ok(config.include_file("_connectrpc.rs").compile()?)
}

//! What the lessons speak: small services, and what is in them.

#![allow(missing_docs, reason = "the comments of the proto stand where there is something to say")]

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

tonic::include_proto!("lessons.v1");

/// Every message that a lesson may send: its own, and those of the server.
pub static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = shared_proto::POOL.clone();
    #[expect(
        clippy::expect_used,
        reason = "the bytes come from our own build script; every test decodes them"
    )]
    pool.decode_file_descriptor_set(&include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"))[..])
        .expect("descriptor set written by build.rs");
    pool
});

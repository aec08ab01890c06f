//! What the client and the server have in common: the code generated from
//! `proto/`, the descriptors of everything in it, and the limits and names
//! that both sides hold to.

mod code;
pub mod frames;
pub mod limits;
mod mode;

use std::sync::LazyLock;

pub use code::code_name;
pub use mode::Mode;
use prost_reflect::{DescriptorPool, MethodDescriptor};

/// `fourmodes.v1`: one service for each of the four modes.
#[allow(missing_docs, reason = "the comments of the protos stand where there is something to say")]
pub mod fourmodes {
    /// The first and so far only version.
    pub mod v1 {
        tonic::include_proto!("fourmodes.v1");
    }
}

/// `google.bytestream`: uploads and downloads.
#[allow(missing_docs, reason = "as above")]
pub mod bytestream {
    tonic::include_proto!("google.bytestream");
}

/// `grpc.testing`: the service of gRPC's interoperability tests.
#[allow(missing_docs, reason = "as above")]
pub mod testing {
    tonic::include_proto!("grpc.testing");
}

/// The services of the tutorials that people start from.
#[allow(missing_docs, reason = "as above")]
pub mod tutorial {
    /// `Greeter`, which has no package.
    pub mod greeter {
        tonic::include_proto!("_");
    }
    /// `streamingdemo`.
    pub mod streaming_demo {
        tonic::include_proto!("streamingdemo");
    }
}

/// Whether a character cannot be seen where it stands: control characters, those
/// that turn the direction of writing, and those without a width that are part
/// of no writing system. A name or a text that has them can look like another.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The `domain` of every `google.rpc.ErrorInfo` that the server sends.
pub const ERROR_DOMAIN: &str = "fourmodes";

/// The header of a response to `ByteStream.Read` that has the `blobs/` name of
/// what is read.
pub const RESOURCE_NAME_HEADER: &str = "resource-name";

/// The `FileDescriptorSet` of all protos, imports included, encoded.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// [`DESCRIPTORS`], indexed by name.
pub static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the bytes come from our own build script; a test decodes them")]
    DescriptorPool::decode(DESCRIPTORS).expect("descriptor set written by build.rs")
});

/// The descriptor of the method that a request path such as
/// `/fourmodes.v1.UnaryService/Multiply` names, if it is in [`POOL`].
pub fn method(path: &str) -> Option<MethodDescriptor> {
    method_in(&POOL, path)
}

/// [`method`], in another pool.
pub fn method_in(pool: &DescriptorPool, path: &str) -> Option<MethodDescriptor> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    pool.get_service_by_name(service)?.methods().find(|m| m.name() == method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_of_a_path_is_read_from_its_descriptor() {
        let mode = |path| method(path).as_ref().map(Mode::of);
        assert_eq!(mode("/fourmodes.v1.UnaryService/Multiply"), Some(Mode::Unary));
        assert_eq!(mode("/fourmodes.v1.ServerStreamingService/WatchQuotes"), Some(Mode::ServerStreaming));
        assert_eq!(mode("/fourmodes.v1.ClientStreamingService/RecordReadings"), Some(Mode::ClientStreaming));
        assert_eq!(mode("/fourmodes.v1.BidiStreamingService/Chat"), Some(Mode::BidiStreaming));
        assert_eq!(mode("/Greeter/SayHello"), Some(Mode::Unary));
        assert_eq!(mode("/Greeter/Nothing"), None);
        assert_eq!(mode("Greeter"), None);
    }
}

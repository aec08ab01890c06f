//! What the client and the server have to agree on: the code generated from
//! `proto/`, the descriptors of everything in it, the reasons of errors, and the
//! limits that both sides keep.

mod codec;
pub mod limits;
mod reason;

use std::{sync::LazyLock, time::Duration};

use grpc_wire::Mode;
use prost_reflect::{DescriptorPool, MethodDescriptor};
pub use reason::Reason;

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

/// A `google.protobuf.Duration` of a peer; none for one that is negative or has nanos
/// that are no part of a second. What `prost_types` offers for this negates the
/// seconds, which a debug build does not survive when there are `i64::MIN`.
#[must_use]
pub fn duration(wire: &prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(wire.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(wire.seconds).ok()?, nanos))
}

/// The header of a response to `ByteStream.Read` that has the `blobs/` name of
/// what is read.
pub const RESOURCE_NAME_HEADER: &str = "resource-name";

/// A header of answers, also about health, where servers share their state: those with the
/// same value have the same state.
pub const STATE_HEADER: &str = "fourmodes-state";

/// The `FileDescriptorSet` of all protos, imports included, encoded.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// [`FILE_DESCRIPTOR_SET`], indexed by name.
pub static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the bytes come from our own build script; a test decodes them")]
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("descriptor set written by build.rs")
});

/// The descriptor of the method that a request path such as
/// `/fourmodes.v1.UnaryService/Multiply` names, if it is in [`POOL`].
pub fn method(path: &str) -> Option<MethodDescriptor> {
    grpc_wire::method_in(&POOL, path)
}

impl From<Mode> for fourmodes::v1::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Unary => Self::Unary,
            Mode::ServerStreaming => Self::ServerStreaming,
            Mode::ClientStreaming => Self::ClientStreaming,
            Mode::BidiStreaming => Self::BidiStreaming,
        }
    }
}

#[cfg(test)]
mod tests {
    use grpc_wire::mode_of;

    use super::*;

    #[test]
    fn the_mode_of_a_path_is_read_from_its_descriptor() {
        let mode = |path| method(path).as_ref().map(mode_of);
        assert_eq!(mode("/fourmodes.v1.UnaryService/Multiply"), Some(Mode::Unary));
        assert_eq!(mode("/fourmodes.v1.ServerStreamingService/WatchQuotes"), Some(Mode::ServerStreaming));
        assert_eq!(mode("/fourmodes.v1.ClientStreamingService/RecordReadings"), Some(Mode::ClientStreaming));
        assert_eq!(mode("/fourmodes.v1.BidiStreamingService/Chat"), Some(Mode::BidiStreaming));
        assert_eq!(mode("/Greeter/SayHello"), Some(Mode::Unary));
        assert_eq!(mode("/Greeter/Nothing"), None);
        assert_eq!(mode("Greeter"), None);
    }
}

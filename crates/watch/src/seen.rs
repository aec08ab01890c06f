//! The events of a connection. The decoder produces them, and the diagram and the
//! recording consume them.

use serde::{Deserialize, Serialize};
use timeline::Side;

/// An event, as a line of a recording contains it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The time since the beginning, in microseconds.
    pub at_us: u64,
    /// The client's connection, from 1.
    pub connection: u64,
    /// The call, from 1 across all connections; 0 if the event belongs to no call.
    #[serde(default, skip_serializing_if = "is_none")]
    pub call: u64,
    /// What happened.
    #[serde(flatten)]
    pub seen: Seen,
}

fn is_none(call: &u64) -> bool {
    *call == 0
}

/// Names and values of metadata. Secret values are masked.
pub type Fields = Vec<(String, String)>;

/// The kind of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Seen {
    /// A client has connected.
    Connected {
        /// Its address.
        client: String,
    },
    /// A call begins.
    Request {
        /// The HTTP method.
        method: String,
        /// For example `/package.Service/Method`.
        path: String,
        /// The client's metadata.
        headers: Fields,
    },
    /// The headers of the response arrived.
    Response {
        /// The HTTP status, not the status of the call.
        status: u16,
        /// The server's metadata.
        headers: Fields,
    },
    /// A gRPC message.
    Message {
        /// The side that sent it.
        from: Side,
        /// Counts from 1 for each side.
        number: u64,
        /// Its length on the wire in bytes, without the prefix.
        length: u64,
        /// Whether it is compressed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        compressed: bool,
        /// Its first bytes, as many as are kept.
        #[serde(with = "as_base64")]
        bytes: Vec<u8>,
    },
    /// The whole body of a side that does not send gRPC messages.
    Body {
        /// The side that sent it.
        from: Side,
        /// Its length in bytes.
        length: u64,
        /// Its first bytes.
        #[serde(with = "as_base64")]
        bytes: Vec<u8>,
    },
    /// The client will send no more.
    HalfClose,
    /// The end, as the server reports it.
    Trailers {
        /// Whether the response had nothing else.
        only: bool,
        /// The trailers, or the headers that contain the status.
        headers: Fields,
    },
    /// One side has reset the call.
    Reset {
        /// The side that reset it.
        from: Side,
        /// The HTTP/2 error code.
        code: u32,
    },
    /// The end without a status.
    Broken {
        /// The reason, and the side that caused it.
        reason: String,
    },
    /// An HTTP/2 frame.
    Frame {
        /// The side that sent it.
        from: Side,
        /// Its content and effect.
        text: String,
    },
    /// How much a side may still send on an HTTP/2 stream. For the page; recordings do
    /// not contain it.
    Window {
        /// The side that may send.
        from: Side,
        /// In bytes.
        left: i64,
    },
    /// An explanation.
    Note {
        /// A text for people.
        text: String,
    },
    /// A gap: the queue had no room for these events.
    Unseen {
        /// The number of missing events.
        events: u64,
    },
}

impl Seen {
    /// Its approximate size in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        let fields = |fields: &Fields| fields.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        let variable: usize = match self {
            Self::Request { path, headers, .. } => path.len() + fields(headers),
            Self::Response { headers, .. } | Self::Trailers { headers, .. } => fields(headers),
            Self::Message { bytes, .. } | Self::Body { bytes, .. } => bytes.capacity(),
            Self::Broken { reason: text } | Self::Frame { text, .. } | Self::Note { text } => text.len(),
            Self::Connected { .. }
            | Self::HalfClose
            | Self::Reset { .. }
            | Self::Window { .. }
            | Self::Unseen { .. } => 0,
        };
        variable + size_of::<Event>()
    }

    /// Whether this is the last event of its call.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Trailers { .. } | Self::Reset { .. } | Self::Broken { .. })
    }
}

/// The value of a field, or a placeholder if it is a secret.
pub(crate) fn masked(name: &str, value: String) -> String {
    match grpc_wire::is_secret(&name.to_ascii_lowercase()) {
        true => "(masked)".to_owned(),
        false => value,
    }
}

/// The other side of a call.
pub(crate) fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

/// `the client` or `the server`.
pub(crate) fn named(side: Side) -> &'static str {
    match side {
        Side::Client => "the client",
        Side::Server => "the server",
    }
}

mod as_base64 {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

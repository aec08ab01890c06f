//! What is seen on a connection: the decoder makes it, the diagram and the recording
//! take it.

use serde::{Deserialize, Serialize};
use timeline::Side;

/// Something that was seen, as a line of a recording has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Since the beginning, in microseconds.
    pub at_us: u64,
    /// The connection of a client, from 1 on.
    pub connection: u64,
    /// The call, from 1 on over all connections; 0 for what belongs to none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub call: u64,
    /// What it was.
    #[serde(flatten)]
    pub seen: Seen,
}

fn is_none(call: &u64) -> bool {
    *call == 0
}

/// Names and values of metadata. Those of secrets are masked.
pub type Fields = Vec<(String, String)>;

/// What was seen.
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
        /// Of HTTP.
        method: String,
        /// As in `/package.Service/Method`.
        path: String,
        /// What the client sends ahead.
        headers: Fields,
    },
    /// A call is answered.
    Response {
        /// Of HTTP, not that of the call.
        status: u16,
        /// What the server sends ahead.
        headers: Fields,
    },
    /// A message of gRPC.
    Message {
        /// Whose it is.
        from: Side,
        /// From 1 on, for each side.
        number: u64,
        /// Its length on the wire, without the prefix, in bytes.
        length: u64,
        /// Whether it is compressed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        compressed: bool,
        /// As many of its bytes as are kept.
        #[serde(with = "as_base64")]
        bytes: Vec<u8>,
    },
    /// The whole body of a side that does not send messages of gRPC.
    Body {
        /// Whose it is.
        from: Side,
        /// In bytes.
        length: u64,
        /// Its beginning.
        #[serde(with = "as_base64")]
        bytes: Vec<u8>,
    },
    /// The client will send no more.
    HalfClose,
    /// The end, as the server put it.
    Trailers {
        /// Whether there was nothing else in the answer.
        only: bool,
        /// The trailers, or the headers that have the status.
        headers: Fields,
    },
    /// One side has reset the call.
    Reset {
        /// Which one.
        from: Side,
        /// As in HTTP/2.
        code: u32,
    },
    /// The end without a status.
    Broken {
        /// Why, and by whom.
        reason: String,
    },
    /// A frame of HTTP/2.
    Frame {
        /// Who sent it.
        from: Side,
        /// What is in it, and what it does.
        text: String,
    },
    /// How much a side may still send on a stream of HTTP/2. For the page; it is in no
    /// recording.
    Window {
        /// Which side.
        from: Side,
        /// In bytes.
        left: i64,
    },
    /// A word of explanation.
    Note {
        /// For people.
        text: String,
    },
    /// Something that is not here, because there was no room for it.
    Unseen {
        /// How many events that would have been.
        events: u64,
    },
}

impl Seen {
    /// What it takes in memory, roughly, in bytes.
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

    /// Whether nothing more comes of its call.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Trailers { .. } | Self::Reset { .. } | Self::Broken { .. })
    }
}

/// The value of a field, or a word in its place when it is a secret.
pub(crate) fn masked(name: &str, value: String) -> String {
    match grpc_wire::is_secret(&name.to_ascii_lowercase()) {
        true => "(masked)".to_owned(),
        false => value,
    }
}

/// What the other side of a call is.
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

//! The events of a call, and their labels.

use std::time::Duration;

use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tonic::Status;

use crate::Message;

/// One side of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The side that calls.
    Client,
    /// The side that is called.
    Server,
}

/// Something that happened.
#[derive(Debug)]
pub struct Event<'a> {
    /// The time since the run began.
    pub at: Duration,
    /// The client that it happened to: "client", or a name if there are several.
    pub client: &'a str,
    /// What happened.
    pub kind: Kind<'a>,
}

/// The kind of an event.
#[derive(Debug)]
pub enum Kind<'a> {
    /// The connection is established.
    Connected {
        /// The other end.
        server: &'a Uri,
    },
    /// A call begins.
    Request {
        /// The method.
        path: &'a str,
        /// The client's metadata, as far as it is to be shown.
        metadata: &'a HeaderMap,
        /// Which server is called, if there are several.
        server: Option<&'a Uri>,
    },
    /// The headers of the response arrived.
    Response {
        /// The HTTP status, not the status of the call.
        http: StatusCode,
        /// The server's metadata.
        metadata: &'a HeaderMap,
    },
    /// A message.
    Message {
        /// The side that sent it.
        from: Side,
        /// Counts from 1 for each side.
        number: u64,
        /// The content.
        message: Message<'a>,
    },
    /// The client will send no more.
    HalfClose,
    /// A request or a response of a protocol that has only these.
    Exchange {
        /// The side that sent it: the client's is the request.
        from: Side,
        /// Whether it is an error.
        failed: bool,
        /// A line for people.
        text: &'a str,
        /// An object for programs.
        fields: &'a Value,
    },
    /// The end, as the server reports it.
    Trailers {
        /// The status of the call.
        status: &'a Status,
        /// Whether the response had nothing else.
        only: bool,
        /// The trailers, or the headers that contain the status.
        metadata: &'a HeaderMap,
    },
    /// The client gave up.
    Cancel,
    /// The end without a status.
    Broken {
        /// Why.
        reason: &'a str,
    },
    /// The connection was lost; the client tries again after a pause.
    Reconnect {
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The pause.
        after: Duration,
        /// Why the connection was lost.
        reason: &'a str,
    },
    /// One of several servers failed, and is left out for a while.
    Ejected {
        /// Which one.
        server: &'a Uri,
        /// For how long.
        time: Duration,
        /// Why.
        reason: &'a str,
    },
    /// Something else that one side sent, as text.
    Sent {
        /// The side that sent it.
        from: Side,
        /// What it is, in one word: `frame`, `body`.
        what: &'a str,
        /// The description.
        text: &'a str,
    },
    /// An explanation.
    Note(&'a str),
}

/// The label of something else that was sent. The text of a frame already says that it
/// is one.
pub(crate) fn sent(what: &str, text: &str) -> String {
    if what == "frame" { text.to_owned() } else { format!("{what} {text}") }
}

/// The label of a response. Every gRPC response has the HTTP status 200, so any other
/// status comes from a hop in between.
pub(crate) fn headers(http: StatusCode) -> String {
    match http {
        StatusCode::OK => "HEADERS".to_owned(),
        http => format!("HEADERS  HTTP {http}"),
    }
}

/// The label of an attempt to reconnect.
pub(crate) fn reconnect(attempt: u32, after: Duration, reason: &str) -> String {
    format!("reconnect {attempt} in {} ms: {reason}", after.as_millis())
}

/// The label of a server that is left out.
pub(crate) fn ejected(server: &Uri, time: Duration, reason: &str) -> String {
    format!("{server} is left out for {} ms: {reason}", time.as_millis())
}

/// The part of a label that says which of several servers is called.
pub(crate) fn at(server: Option<&Uri>) -> String {
    server.and_then(Uri::authority).map(|server| format!("  at {server}")).unwrap_or_default()
}

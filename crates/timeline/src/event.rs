//! What can happen on a call, and what to call it.

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
    /// The one that calls.
    Client,
    /// The one that is called.
    Server,
}

/// Something that happened.
#[derive(Debug)]
pub struct Event<'a> {
    /// Since the run began.
    pub at: Duration,
    /// The client it happened to: "client", or a name where there are several.
    pub client: &'a str,
    /// What happened.
    pub kind: Kind<'a>,
}

/// What happened.
#[derive(Debug)]
pub enum Kind<'a> {
    /// The connection is there.
    Connected {
        /// The other end.
        server: &'a Uri,
    },
    /// A call begins.
    Request {
        /// The method.
        path: &'a str,
        /// What the client sends ahead, as far as it is to be shown.
        metadata: &'a HeaderMap,
        /// Which of several servers is called.
        server: Option<&'a Uri>,
    },
    /// A call is answered.
    Response {
        /// Not the status of the call.
        http: StatusCode,
        /// What the server sends ahead.
        metadata: &'a HeaderMap,
    },
    /// A message.
    Message {
        /// Whose it is.
        from: Side,
        /// The first one of a side has 1.
        number: u64,
        /// What it says.
        message: Message<'a>,
    },
    /// The client will send no more.
    HalfClose,
    /// A request or a response of a protocol that has nothing else.
    Exchange {
        /// Whose it is: the client's is the request.
        from: Side,
        /// Whether it is an error.
        failed: bool,
        /// For people, on a line.
        text: &'a str,
        /// For programs: an object.
        fields: &'a Value,
    },
    /// The end, as the server put it.
    Trailers {
        /// The status of the call.
        status: &'a Status,
        /// Whether there was nothing else in the answer.
        only: bool,
        /// The trailers, or the headers that have the status.
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
        /// Which one this will be, from 1 on.
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
    /// Something else that one side sent, in words.
    Sent {
        /// Who sent it.
        from: Side,
        /// What it is, in one word: `frame`, `body`.
        what: &'a str,
        /// What there is to say of it.
        text: &'a str,
    },
    /// A word of explanation.
    Note(&'a str),
}

/// The label of something else that was sent. A frame says what it is.
pub(crate) fn sent(what: &str, text: &str) -> String {
    if what == "frame" { text.to_owned() } else { format!("{what} {text}") }
}

/// The label of an answer: every gRPC answer has the HTTP status 200, so any
/// other one comes from something in between.
pub(crate) fn headers(http: StatusCode) -> String {
    match http {
        StatusCode::OK => "HEADERS".to_owned(),
        http => format!("HEADERS  HTTP {http}"),
    }
}

/// The label of an attempt to connect again.
pub(crate) fn reconnect(attempt: u32, after: Duration, reason: &str) -> String {
    format!("reconnect {attempt} in {} ms: {reason}", after.as_millis())
}

/// The label of a server that is left out.
pub(crate) fn ejected(server: &Uri, time: Duration, reason: &str) -> String {
    format!("{server} is left out for {} ms: {reason}", time.as_millis())
}

/// Which of several servers a call goes to.
pub(crate) fn at(server: Option<&Uri>) -> String {
    server.and_then(Uri::authority).map(|server| format!("  at {server}")).unwrap_or_default()
}

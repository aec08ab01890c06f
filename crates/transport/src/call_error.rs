//! Classifies the failures of calls.

use std::{error::Error, fmt, io, path::Path, time::Duration};

use http::StatusCode;
use prost::DecodeError;
use tonic::{Code, Status, TimeoutExpired, transport};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    Connect, ConnectError, TlsError,
    answer::{NoAnswer, code_of},
    connect_error::chain,
    retry::Pushback,
};

/// Why a call failed, or could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// The kind of the failure.
    pub kind: Kind,
    /// The error message of the side that refused or failed.
    pub message: String,
    /// The `google.rpc` messages of the server's status.
    pub details: Box<ErrorDetails>,
    /// The errors below the message, outermost first. Empty for a status that a server
    /// sent.
    pub sources: Vec<String>,
    /// What the server says about another attempt.
    pub pushback: Option<Pushback>,
}

/// The kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is no connection.
    Connect(Connect),
    /// A status from the server, or one made here because there was none.
    Status(Code),
    /// A response that is not gRPC, such as the page of a proxy.
    Page(StatusCode),
    /// A gRPC response that ended without a status.
    NoStatus,
    /// A response with data that is not a message of this call.
    NoMessage,
    /// A gRPC response that a call of this mode cannot have, or with a compression that
    /// the client does not support.
    WrongAnswer(Code),
    /// The connection ended by GOAWAY with ENHANCE_YOUR_CALM: the server considers the
    /// client's traffic excessive.
    Calm,
    /// A file that the connection needs cannot be used.
    File,
}

impl CallError {
    /// An error without sources.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let details = Box::new(ErrorDetails::new());
        Self { kind, message: message.into(), details, sources: Vec::new(), pushback: None }
    }

    pub(crate) fn file(file: &Path, reason: impl fmt::Display) -> Self {
        Self::new(Kind::File, format!("{}: {reason}", file.display()))
    }

    /// A call that ended without a status from the server.
    ///
    /// tonic gives such a call one of half a dozen codes, depending on the layer that
    /// noticed. Here a lost connection is UNAVAILABLE and a passed deadline
    /// DEADLINE_EXCEEDED, as in the other gRPC libraries.
    pub fn broken(error: &(dyn Error + 'static)) -> Self {
        let status = error.downcast_ref::<Status>();
        let sources = match status {
            Some(status) => sources(status.source()),
            None => sources(Some(error)),
        };
        if let Some(error) = TlsError::of(error) {
            return Self { sources, ..ConnectError::from(error).into() };
        }
        let last = sources.last().cloned().unwrap_or_else(|| error.to_string());
        let (kind, message) = if let Some(why) = chain(error).find_map(|error| error.downcast_ref()) {
            (Kind::of(why), why.to_string())
        } else if chain(error).any(|error| error.is::<DecodeError>()) {
            (Kind::NoMessage, last)
        } else if chain(error).any(|error| error.is::<TimeoutExpired>()) {
            (Kind::Status(Code::DeadlineExceeded), "the deadline has passed".to_owned())
        } else if chain(error).any(is_calm) {
            (Kind::Calm, last)
        } else if chain(error).any(|error| error.is::<io::Error>()) {
            (Kind::Status(Code::Unavailable), format!("the connection was lost: {last}"))
        } else {
            let code = status.map_or(Code::Unavailable, Status::code);
            (Kind::Status(code), status.map_or(last, |status| status.message().to_owned()))
        };
        Self { sources, ..Self::new(kind, message) }
    }

    /// The status code of the call.
    pub fn code(&self) -> Code {
        match self.kind {
            Kind::Connect(_) => Code::Unavailable,
            Kind::Status(code) | Kind::WrongAnswer(code) => code,
            Kind::Page(status) => code_of(status),
            Kind::NoStatus => Code::Unknown,
            Kind::NoMessage => Code::Internal,
            Kind::Calm => Code::ResourceExhausted,
            Kind::File => Code::FailedPrecondition,
        }
    }

    /// Whether the status was made here because the server sent none.
    pub fn is_made_here(&self) -> bool {
        !self.sources.is_empty()
    }

    /// The delay that the server asks for before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.details.retry_info().and_then(|retry| retry.retry_delay)
    }

    /// Whether the call may succeed over a new connection: the connection or its server
    /// is gone, or the server has said when to retry.
    pub fn is_lost_connection(&self) -> bool {
        match self.kind {
            // The server may be shutting down.
            Kind::Connect(Connect::Tls(TlsError::Closed)) => true,
            // The next connection would be refused for the same reason.
            Kind::Connect(Connect::Tls(_)) | Kind::WrongAnswer(_) | Kind::File => false,
            Kind::Connect(_) | Kind::Calm | Kind::NoStatus | Kind::NoMessage => true,
            Kind::Status(Code::Unavailable) => true,
            Kind::Status(Code::DeadlineExceeded) => false,
            Kind::Status(Code::Aborted) if self.retry_after().is_some() => true,
            Kind::Page(_) => self.code() == Code::Unavailable,
            // tonic gives transport errors one of half a dozen codes.
            Kind::Status(_) => self.is_made_here(),
        }
    }

    /// The same, unless the server forbids another attempt.
    pub fn may_be_tried_again(&self) -> bool {
        self.is_lost_connection() && self.pushback != Some(Pushback::Never)
    }

    /// The most likely cause and a remedy, as far as these do not depend on the call.
    pub fn advice(&self) -> Option<(&'static str, &'static str)> {
        match self.kind {
            Kind::Connect(reason) => Some(reason.advice()),
            Kind::Page(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => Some((
                "the headers of the call exceed the limit of the server, or of a proxy before it",
                "send a shorter token or less metadata, or raise the limit there (`--max-headers`)",
            )),
            Kind::Calm => Some((
                "the server takes this client for an attacker: too long headers, or too many frames, pings \
                 or cancelled calls",
                "send a shorter token or less metadata; the log of the server may name the reason",
            )),
            Kind::Page(status) if code_of(status) == Code::Unavailable => Some((
                "a proxy answers: it does not reach its server, or limits the rate of calls",
                "try again in a moment; check the proxy, for example with `fourmodes check`",
            )),
            Kind::Page(_) => Some((
                "the peer is not a gRPC server, or a proxy that does not forward gRPC",
                "name a gRPC server with --server",
            )),
            Kind::NoStatus => Some((
                "a hop on the path cut the answer, or drops the trailers with the status",
                "try again; `fourmodes check` shows whether trailers pass",
            )),
            Kind::NoMessage => Some((
                "a hop on the path, such as a proxy, changed the answer, or the server has another proto",
                "read the log of the proxy, and compare `fourmodes --version` on both sides",
            )),
            Kind::WrongAnswer(_) => Some((
                "the server does not keep to gRPC, or has another proto, in which the method has another mode",
                "compare the protos of both sides",
            )),
            Kind::File => Some(("the input cannot be used", "see the `--help` of this command")),
            Kind::Status(_) => None,
        }
    }
}

impl Kind {
    fn of(why: &NoAnswer) -> Self {
        match why {
            NoAnswer::Page(page) => Self::Page(page.status),
            NoAnswer::NoStatus => Self::NoStatus,
            NoAnswer::NoMessage => Self::NoMessage,
            NoAnswer::Encoding(_) => Self::WrongAnswer(Code::Internal),
            NoAnswer::NotOne(_) => Self::WrongAnswer(Code::Unimplemented),
            NoAnswer::Silent(_) => Self::Status(Code::Unavailable),
        }
    }
}

fn is_calm(error: &(dyn Error + 'static)) -> bool {
    let ended = error.downcast_ref().filter(|error: &&h2::Error| error.is_go_away() && error.is_remote());
    ended.and_then(h2::Error::reason) == Some(h2::Reason::ENHANCE_YOUR_CALM)
}

/// Why a call broke, for people; `None` if its deadline passed.
pub fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    let error = CallError::broken(error);
    (error.kind != Kind::Status(Code::DeadlineExceeded)).then_some(error.message)
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        if status.source().is_some() {
            return Self::broken(&status);
        }
        // The message of tonic's servers when a deadline passes on their side. It
        // arrives over the wire, so there is only text to match.
        let code = match (status.code(), status.message()) {
            (Code::Cancelled, "Timeout expired") => Code::DeadlineExceeded,
            (code, _) => code,
        };
        let mut error = Self::new(Kind::Status(code), status.message());
        *error.details = status.get_error_details();
        error.pushback = Pushback::of(status.metadata());
        error
    }
}

impl From<ConnectError> for CallError {
    fn from(error: ConnectError) -> Self {
        let sources = sources(error.source());
        let message = match error.reason {
            Connect::Tls(error) => error.to_string(),
            // The chain of errors repeats itself; the innermost error says the most.
            _ => sources.last().cloned().unwrap_or_else(|| error.to_string()),
        };
        Self { sources, ..Self::new(Kind::Connect(error.reason), message) }
    }
}

impl From<transport::Error> for CallError {
    fn from(error: transport::Error) -> Self {
        let sources = sources(error.source());
        let dialled = chain(&error).find_map(|error| error.downcast_ref::<ConnectError>());
        let reason = match TlsError::of(&error) {
            Some(error) => Connect::Tls(error),
            None => dialled.map_or_else(|| Connect::of(&error), |error| error.reason),
        };
        let message = match reason {
            Connect::Tls(error) => error.to_string(),
            _ => sources.last().cloned().unwrap_or_else(|| error.to_string()),
        };
        Self { sources, ..Self::new(Kind::Connect(reason), message) }
    }
}

fn sources(below: Option<&(dyn Error + 'static)>) -> Vec<String> {
    let mut sources: Vec<String> = below.into_iter().flat_map(chain).map(ToString::to_string).collect();
    sources.dedup();
    sources
}

#[cfg(test)]
mod tests {
    use h2::Reason;

    use super::*;

    #[test]
    fn a_lost_connection_has_five_faces() {
        let from_h2 = |reason: Reason| Status::from_error(Box::new(h2::Error::from(reason)));
        let faces = [
            (Code::Unavailable, from_h2(Reason::REFUSED_STREAM)),
            (Code::Unknown, Status::from_error("channel closed".into())),
            (Code::Internal, from_h2(Reason::PROTOCOL_ERROR)),
            (Code::Cancelled, from_h2(Reason::CANCEL)),
            (Code::ResourceExhausted, from_h2(Reason::ENHANCE_YOUR_CALM)),
        ];
        for (code, face) in faces {
            assert_eq!(face.code(), code);
            assert!(CallError::from(face).may_be_tried_again(), "{code:?}");
            // The same code in an answer of the server.
            let answer = CallError::from(Status::new(code, "no"));
            assert_eq!(answer.may_be_tried_again(), code == Code::Unavailable, "{code:?}");
        }
        assert!(!CallError::from(Status::from_error(Box::new(TimeoutExpired(())))).may_be_tried_again());
    }

    #[test]
    fn of_what_is_wrong_with_tls_only_the_end_of_the_connection_may_pass() {
        let may_pass = |error: TlsError| CallError::from(ConnectError::from(error)).may_be_tried_again();
        assert!(may_pass(TlsError::Closed));
        for error in [TlsError::UnknownCa, TlsError::Expired, TlsError::CertificateRequired, TlsError::NoTls]
        {
            assert!(!may_pass(error), "{error:?}");
        }
    }

    #[test]
    fn a_server_that_wants_no_other_attempt_gets_none() {
        let mut status = Status::unavailable("for good");
        status.metadata_mut().insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
        let error = CallError::from(status);
        assert!(error.is_lost_connection() && !error.may_be_tried_again());
    }
}

//! Why a call has no answer that counts.

use std::{fmt, time::Duration};

use grpc_wire::http2_error;
use h2::Reason;
use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use transport::{CallError, Page};

use crate::{
    evidence::{By, End, Progress, Seen},
    remedies,
};

/// Why a call has no answer that counts.
#[derive(Debug, Clone)]
pub(crate) enum WireError {
    /// There is no connection.
    Unconnected(String, &'static str, &'static str),
    /// RST_STREAM, with its reason.
    Reset(Reason),
    /// The connection ended with GOAWAY, with what that says; with `NO_ERROR` the call
    /// may be made again.
    GoAway(Reason, String),
    /// The connection ended without a word, or what came was no HTTP/2.
    Broken(String),
    /// The connection ended by a limit of this client's HTTP/2 library.
    Local(String),
    /// The peer closed the connection before its first word.
    Closed,
    /// The peer has taken the connection, and has said nothing in this time.
    Mute(Duration),
    /// An answer that is none of gRPC.
    Http(Page),
    /// It ended without `grpc-status`.
    NoStatus,
    /// Its status was in a head that did not end the stream.
    StatusInHead(Box<Status>),
    /// What came cannot be read.
    Malformed(String),
    /// A status where there should have been none, or another one.
    Status(Box<Status>),
    /// Nothing came in this time.
    Silent(Duration),
    /// Nothing came in this time, and so many bytes that were sent have not got to the next
    /// hop.
    Forgotten(Duration, u64),
}

impl WireError {
    pub(crate) const FORGOTTEN: (&str, &str) = (
        "a hop on the path (NAT, a firewall, an L4 balancer) has forgotten the connection without a \
         word",
        remedies::FORGOTTEN,
    );

    /// Nothing has passed in this time.
    pub(crate) fn silent(time: Duration, progress: Progress) -> Self {
        match progress.under_way {
            0 => Self::Silent(time),
            bytes => Self::Forgotten(time, bytes),
        }
    }

    /// What the library says, with what was seen of the connection.
    pub(crate) fn of(error: h2::Error, seen: &Seen, stream: Option<u32>) -> Self {
        match error.reason() {
            Some(reason) if error.is_reset() && error.is_remote() => return Self::Reset(reason),
            Some(reason @ Reason::ENHANCE_YOUR_CALM) if error.is_library() => {
                seen.ends_here(reason);
                return Self::Local(error.to_string());
            }
            Some(reason) if error.is_library() => {
                let name = http2_error(reason.into());
                return Self::Broken(format!("the peer violates HTTP/2: {name}"));
            }
            _ => {}
        }
        match seen.ended() {
            Some(End { by: By::Peer, frame: "GOAWAY", code, last_stream, debug, .. }) => {
                let code = code.unwrap_or(Reason::NO_ERROR);
                // What was under way was to go on.
                match stream.is_some_and(|stream| Some(stream) <= last_stream) && !error.is_go_away() {
                    true if code == Reason::NO_ERROR => {
                        Self::Broken("closed after GOAWAY, although a call was to continue".to_owned())
                    }
                    _ => Self::GoAway(code, debug.unwrap_or_default()),
                }
            }
            Some(End { by: By::Peer, frame: "FIN", .. }) => Self::Broken("closed without GOAWAY".to_owned()),
            Some(End { by: By::Peer, .. }) => Self::Broken("reset by the peer, without GOAWAY".to_owned()),
            _ => Self::Broken(error.to_string()),
        }
    }

    /// How often to ask again, because it may be so by chance.
    pub(crate) fn again(&self) -> usize {
        match self {
            Self::StatusInHead(_) => 4,
            // The others on the connection have lost it, too: `life/1200-calls` counts that.
            Self::Broken(_) => 1,
            // A limit of the rate.
            Self::Http(page) if matches!(page.status.as_u16(), 429 | 503) => 4,
            _ => 0,
        }
    }

    /// What most likely happened, and what to do.
    pub(crate) fn advice(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unconnected(_, cause, remedy) => (cause, remedy),
            Self::Reset(Reason::REFUSED_STREAM) => {
                ("the server, or a hop before it, refuses streams", remedies::STREAMS)
            }
            Self::Reset(_) => ("a hop on the path ended the call without a status", remedies::RESET),
            Self::Local(_) => (
                "a limit of this client's HTTP/2 library (h2) ended it, not the path",
                "test the path with another client; clients with the same library also fail",
            ),
            Self::Closed => ("the peer accepts connections and closes them", remedies::NOBODY),
            Self::Mute(_) => ("the peer accepts connections and sends nothing", remedies::NOBODY),
            Self::GoAway(Reason::ENHANCE_YOUR_CALM, _) => {
                ("the peer takes this client's requests for an attack", remedies::CALM)
            }
            Self::GoAway(..) | Self::Broken(_) => ("a hop on the path ended the connection", remedies::RESET),
            Self::Http(page) => match page.status {
                StatusCode::PAYLOAD_TOO_LARGE => ("a proxy limits the size of a request", remedies::BODY),
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::BAD_REQUEST => {
                    ("a proxy rejects the headers of the request", remedies::HEADERS)
                }
                StatusCode::BAD_GATEWAY => {
                    ("a proxy does not reach the server, or not by HTTP/2", remedies::UPSTREAM)
                }
                StatusCode::SERVICE_UNAVAILABLE => (
                    "a proxy does not reach the server, or limits the rate of calls",
                    remedies::UPSTREAM_OR_RATE,
                ),
                StatusCode::TOO_MANY_REQUESTS => {
                    ("a hop on the path limits the rate of calls", remedies::RATE)
                }
                StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    ("a proxy requires credentials", remedies::CREDENTIALS)
                }
                status if status.is_redirection() => {
                    ("the endpoint redirects the call, which no gRPC client follows", remedies::REDIRECT)
                }
                StatusCode::REQUEST_TIMEOUT => {
                    ("a proxy forwards a request only after its end", remedies::BUFFERING)
                }
                StatusCode::GATEWAY_TIMEOUT => {
                    ("a proxy timed out while waiting for the server", remedies::IDLE)
                }
                StatusCode::NOT_FOUND => ("the endpoint does not know the path", remedies::ROUTE),
                _ => ("a proxy answers, or a server that is not gRPC", remedies::UPSTREAM),
            },
            Self::Status(_) | Self::StatusInHead(_) if self.needs_http2() => {
                ("a hop on the path speaks HTTP/1.1 to the server", remedies::HTTP2)
            }
            Self::StatusInHead(_) => (
                "a hop on the path turns the end of a call into its beginning: Go clients get INTERNAL",
                remedies::TRAILERS_ONLY,
            ),
            Self::NoStatus => ("a hop on the path drops the trailers", remedies::TRAILERS),
            Self::Malformed(_) => ("a hop on the path changes the data", remedies::UPSTREAM),
            Self::Status(_) if self.is_limit_of_server() => {
                ("the server reports that one of its limits is reached", remedies::LIMIT)
            }
            Self::Status(status) => match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => (
                    "the server requires a token",
                    "set FOURMODES_TOKEN to a token that it knows, or --token-file to a file with such a token",
                ),
                Code::Unavailable => {
                    ("the server, or a proxy before it, does not answer", remedies::UPSTREAM)
                }
                Code::DeadlineExceeded => {
                    ("a deadline passed that this client did not set", remedies::DEADLINE)
                }
                _ => (
                    "the server, or a proxy before it, rejects the call",
                    "read the log of the server: a call that is not in it was rejected on the path",
                ),
            },
            Self::Silent(_) => ("a hop on the path delays or drops the call", remedies::BUFFERING),
            Self::Forgotten(..) => Self::FORGOTTEN,
        }
    }

    /// Whether it is what our server says of a call that came by HTTP/1.1.
    pub(crate) fn needs_http2(&self) -> bool {
        self.reason() == Some(grpc_wire::Reason::Http2Needed)
    }

    /// Whether our server says that a limit of its own was reached.
    pub(crate) fn is_limit_of_server(&self) -> bool {
        self.reason() == Some(grpc_wire::Reason::LimitReached)
    }

    /// Of our server.
    fn reason(&self) -> Option<grpc_wire::Reason> {
        let (Self::Status(status) | Self::StatusInHead(status)) = self else { return None };
        let info = status.get_details_error_info()?;
        info.reason.parse().ok().filter(|_| info.domain == grpc_wire::ERROR_DOMAIN)
    }

    /// The status, if it is one.
    pub(crate) fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unconnected(what, ..) => f.write_str(what),
            Self::Reset(reason) => write!(f, "reset with {}", http2_error((*reason).into())),
            Self::GoAway(reason, debug) => {
                write!(f, "the connection ended with GOAWAY {}", http2_error((*reason).into()))?;
                if !debug.is_empty() {
                    write!(f, " ({debug})")?;
                }
                Ok(())
            }
            Self::Local(what) => write!(f, "this client's HTTP/2 library ended the connection: {what}"),
            Self::Closed => f.write_str("the connection was closed before any data arrived"),
            Self::Mute(time) => write!(f, "no data for {}", humantime::format_duration(*time)),
            Self::Broken(what) => write!(f, "the connection was lost: {what}"),
            Self::Http(page) => page.fmt(f),
            Self::StatusInHead(status) => {
                let code = grpc_wire::code_name(status.code());
                write!(f, "{code} in headers that do not end the stream")
            }
            Self::NoStatus => f.write_str("ended without a grpc-status"),
            Self::Malformed(what) => f.write_str(what),
            Self::Status(status) if status.message().is_empty() => {
                f.write_str(grpc_wire::code_name(status.code()))
            }
            Self::Status(status) => {
                write!(f, "{}: {}", grpc_wire::code_name(status.code()), status.message())
            }
            Self::Silent(time) => write!(f, "no data for {}", humantime::format_duration(*time)),
            Self::Forgotten(time, bytes) => {
                let time = humantime::format_duration(*time);
                write!(f, "no data for {time}, and {bytes} bytes were not accepted")
            }
        }
    }
}

/// Where nothing has passed yet.
impl From<h2::Error> for WireError {
    fn from(error: h2::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<CallError> for WireError {
    fn from(error: CallError) -> Self {
        let (cause, next) = error.advice().unwrap_or_default();
        Self::Unconnected(error.message, cause, next)
    }
}

//! The statuses of the stack.

use std::{collections::HashMap, time::Duration};

use grpc_wire::{ERROR_DOMAIN, Mode, Reason};
use humantime::format_duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// UNAVAILABLE with `RetryInfo`: retry the call in a moment, or on another server. For a handler
/// whose work ended with [`Stack::draining`](crate::Stack::draining).
pub fn shutting_down() -> Status {
    come_again("the server is shutting down", None)
}

/// UNAVAILABLE with `RetryInfo`: the stream was idle.
pub(crate) fn idle_for_too_long(limit: Duration) -> Status {
    let message = format!("this stream was idle for {}", format_duration(limit));
    come_again(&message, Some(("idle_timeout", limit)))
}

/// UNAVAILABLE with `RetryInfo`: the stream is too old.
pub(crate) fn open_for_too_long(limit: Duration) -> Status {
    let message =
        format!("this stream was open for about {}; open a new one to continue", format_duration(limit));
    come_again(&message, Some(("max_stream_age", limit)))
}

fn come_again(message: &str, limit: Option<(&str, Duration)>) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    if let Some((name, limit)) = limit {
        let named = [("limit", name.to_owned()), ("value", format_duration(limit).to_string())];
        details.set_error_info(<&str>::from(Reason::LimitReached), ERROR_DOMAIN, facts(named));
    }
    Status::with_error_details(Code::Unavailable, message, details)
}

/// RESOURCE_EXHAUSTED with `RetryInfo`: too many open calls.
pub(crate) fn too_many_calls(limit: usize) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    let named = [("limit", "max_calls".to_owned()), ("value", limit.to_string())];
    details.set_error_info(<&str>::from(Reason::LimitReached), ERROR_DOMAIN, facts(named));
    let message = format!("{limit} calls are open, which is the maximum of this server");
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// RESOURCE_EXHAUSTED with `RetryInfo`: unread and incomplete messages use too much memory.
pub(crate) fn too_much_buffered(limit: usize) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    let named = [("limit", "max_buffered".to_owned()), ("value", limit.to_string())];
    details.set_error_info(<&str>::from(Reason::LimitReached), ERROR_DOMAIN, facts(named));
    let message = format!("unread and incomplete messages use all of the {limit} bytes that they may");
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// RESOURCE_EXHAUSTED: the message is too long.
pub(crate) fn message_too_long(length: u32, limit: u32) -> Status {
    let message = format!("a message of {length} bytes is too long: the limit is {limit}");
    let named = [("limit", "max_message".to_owned()), ("value", limit.to_string())];
    with_reason(Code::ResourceExhausted, message, Reason::LimitReached, named)
}

/// UNIMPLEMENTED, as in gRPC's `statuscodes.md` for a wrong number of requests.
pub(crate) fn not_one_request(mode: Mode, came: &str) -> Status {
    Status::unimplemented(format!("{mode} takes one request message, but {came} arrived"))
}

/// RESOURCE_EXHAUSTED: too much metadata.
pub(crate) fn head_too_long(length: usize, limit: u32) -> Status {
    let message = format!("the headers of this call have {length} bytes: the limit is {limit}");
    let named = [("limit", "max_headers".to_owned()), ("value", limit.to_string())];
    with_reason(Code::ResourceExhausted, message, Reason::LimitReached, named)
}

/// UNAUTHENTICATED: the call has no token.
pub(crate) fn token_missing() -> Status {
    let message = "this server requires a token: metadata `authorization: Bearer TOKEN`";
    with_reason(Code::Unauthenticated, message.to_owned(), Reason::TokenMissing, [])
}

/// UNAUTHENTICATED: the token is unknown.
pub(crate) fn token_unknown() -> Status {
    let message = "this server does not know the token of this call";
    with_reason(Code::Unauthenticated, message.to_owned(), Reason::TokenUnknown, [])
}

/// PERMISSION_DENIED: the caller may not call this mode.
pub(crate) fn mode_not_allowed(caller: &str, mode: Mode, modes: &[Mode]) -> Status {
    let modes = modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ");
    let message = format!("{caller} may call {modes}, not {mode}");
    let facts = [("mode", mode.to_string()), ("allowed", modes)];
    with_reason(Code::PermissionDenied, message, Reason::ModeNotAllowed, facts)
}

/// A fault that the client requested.
pub(crate) fn injected(code: Code) -> Status {
    with_reason(code, "a fault that the call requested".to_owned(), Reason::FaultInjected, [])
}

/// DEADLINE_EXCEEDED: the deadline of the client, or of the server, has passed.
pub(crate) fn deadline_exceeded(timeout: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "the call took longer than its deadline of {}",
        format_duration(timeout)
    ))
}

/// INTERNAL: gRPC over HTTP/1.1.
pub(crate) fn http2_needed() -> Status {
    let message = "this call arrived over HTTP/1.1, but gRPC needs HTTP/2 on every hop: a proxy before this \
                   server must speak HTTP/2 to it";
    with_reason(Code::Internal, message.to_owned(), Reason::Http2Needed, [])
}

/// INVALID_ARGUMENT for an invalid gRPC header.
pub(crate) fn bad_timeout() -> Status {
    let message = "grpc-timeout is not up to eight digits and one of H, M, S, m, u, n";
    let details = ErrorDetails::with_bad_request_violation("grpc-timeout", message);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// INTERNAL: a layer needs to know the call, and the layer that begins it is
/// missing.
pub(crate) fn not_begun() -> Status {
    Status::internal("the call was not registered: a defect of the server")
}

fn with_reason<const N: usize>(
    code: Code,
    message: String,
    reason: Reason,
    given: [(&str, String); N],
) -> Status {
    let details = ErrorDetails::with_error_info(<&str>::from(reason), ERROR_DOMAIN, facts(given));
    Status::with_error_details(code, message, details)
}

fn facts<const N: usize>(facts: [(&str, String); N]) -> HashMap<String, String> {
    facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

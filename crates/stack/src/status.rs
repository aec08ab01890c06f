//! What the stack answers, as a `Status`.

use std::{collections::HashMap, time::Duration};

use grpc_wire::{ERROR_DOMAIN, Mode, Reason};
use humantime::format_duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// UNAVAILABLE with `RetryInfo`: the same call will do elsewhere, or in a moment.
/// For a handler whose work has ended with [`Stack::draining`](crate::Stack::draining).
pub fn shutting_down() -> Status {
    come_again("the server is shutting down", None)
}

/// Likewise, of a stream that does not move.
pub(crate) fn idle_for_too_long(limit: Duration) -> Status {
    let message = format!("nothing moved on this stream for {}", format_duration(limit));
    come_again(&message, Some(("idle_timeout", limit)))
}

/// Likewise, of a stream that is old.
pub(crate) fn open_for_too_long(limit: Duration) -> Status {
    let message =
        format!("this stream was open for about {}, and may go on as a new one", format_duration(limit));
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

/// RESOURCE_EXHAUSTED with `RetryInfo`: there is no room for another call.
pub(crate) fn too_many_calls(limit: usize) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    let named = [("limit", "max_calls".to_owned()), ("value", limit.to_string())];
    details.set_error_info(<&str>::from(Reason::LimitReached), ERROR_DOMAIN, facts(named));
    let message = format!("{limit} calls are open, and that is as many as this server takes");
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// RESOURCE_EXHAUSTED with `RetryInfo`: what is not sent or not complete takes more
/// memory than there may be for it.
pub(crate) fn too_much_buffered(limit: usize) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    let named = [("limit", "max_buffered".to_owned()), ("value", limit.to_string())];
    details.set_error_info(<&str>::from(Reason::LimitReached), ERROR_DOMAIN, facts(named));
    let message = format!(
        "messages that the peers have not read, or not sent to their end, take all of the {limit} bytes that they may"
    );
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// RESOURCE_EXHAUSTED: what the sender has to do is to send less at a time.
pub(crate) fn message_too_long(length: u32, limit: u32) -> Status {
    let message = format!("a message of {length} bytes is too long: {limit} are taken here");
    let named = [("limit", "max_message".to_owned()), ("value", limit.to_string())];
    with_reason(Code::ResourceExhausted, message, Reason::LimitReached, named)
}

/// UNIMPLEMENTED, as gRPC's `statuscodes.md` has it for a number of requests that
/// the mode of the method does not have.
pub(crate) fn not_one_request(mode: Mode, came: &str) -> Status {
    Status::unimplemented(format!("{mode} takes one request message, and {came} came"))
}

/// RESOURCE_EXHAUSTED: there is too much metadata.
pub(crate) fn head_too_long(length: usize, limit: u32) -> Status {
    let message = format!("the headers of this call take {length} bytes: this server takes {limit}");
    let named = [("limit", "max_headers".to_owned()), ("value", limit.to_string())];
    with_reason(Code::ResourceExhausted, message, Reason::LimitReached, named)
}

/// UNAUTHENTICATED: the call says nothing of who makes it.
pub(crate) fn token_missing() -> Status {
    let message = "this server wants a token: metadata `authorization: Bearer TOKEN`";
    with_reason(Code::Unauthenticated, message.to_owned(), Reason::TokenMissing, [])
}

/// UNAUTHENTICATED: the token is nobody's.
pub(crate) fn token_unknown() -> Status {
    let message = "the token of this call is not one that this server knows";
    with_reason(Code::Unauthenticated, message.to_owned(), Reason::TokenUnknown, [])
}

/// PERMISSION_DENIED: the caller is known, and may not do this.
pub(crate) fn mode_not_allowed(caller: &str, mode: Mode, modes: &[Mode]) -> Status {
    let modes = modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ");
    let message = format!("{caller} may call {modes}, not {mode}");
    let facts = [("mode", mode.to_string()), ("allowed", modes)];
    with_reason(Code::PermissionDenied, message, Reason::ModeNotAllowed, facts)
}

/// What a client asked for, to see what it does about it.
pub(crate) fn injected(code: Code) -> Status {
    with_reason(code, "a fault that the call asked for".to_owned(), Reason::FaultInjected, [])
}

/// DEADLINE_EXCEEDED: the time is over that the client gave, or the server.
pub(crate) fn deadline_exceeded(timeout: Duration) -> Status {
    Status::deadline_exceeded(format!("the call took longer than the {} it had", format_duration(timeout)))
}

/// INTERNAL: gRPC by a protocol that has no streams.
pub(crate) fn http2_needed() -> Status {
    let message = "this call came by HTTP/1.1, and gRPC needs HTTP/2 all the way: a proxy before this server has to \
        speak HTTP/2 to it";
    with_reason(Code::Internal, message.to_owned(), Reason::Http2Needed, [])
}

/// INVALID_ARGUMENT for a header that is not as gRPC has it.
pub(crate) fn bad_timeout() -> Status {
    let message = "grpc-timeout is not up to eight digits and one of H, M, S, m, u, n";
    let details = ErrorDetails::with_bad_request_violation("grpc-timeout", message);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// INTERNAL: a layer needs to know the call, and the layer that begins it is
/// missing.
pub(crate) fn not_begun() -> Status {
    Status::internal("the call passed no layer that begins it: a defect of the server")
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

//! Domain error -> `Status`. The only place that chooses a code.

use std::{collections::HashMap, time::Duration};

use shared_document::Refusal;
use shared_proto::{ERROR_DOMAIN, Mode};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::domain::{
    arithmetic::Overflow, documents::DocumentError, market::MarketError, quotes::UnknownSymbols,
    rooms::RoomError, store::StoreError, system::Unreadable,
};

impl From<Overflow> for Status {
    fn from(error: Overflow) -> Self {
        let factors = [("a", error.a.to_string()), ("b", error.b.to_string())];
        with_reason(Code::OutOfRange, error.to_string(), "INT64_OVERFLOW", factors)
    }
}

impl From<UnknownSymbols> for Status {
    fn from(error: UnknownSymbols) -> Self {
        bad_request("symbols", error.to_string())
    }
}

impl From<MarketError> for Status {
    fn from(error: MarketError) -> Self {
        let message = error.to_string();
        let (reason, facts) = match error {
            MarketError::OtherEpoch { asked, epoch } => ("OTHER_EPOCH", [("asked", asked), ("epoch", epoch)]),
            MarketError::NotYet { from, next } => ("NOT_YET", [("from", from), ("next", next)]),
            MarketError::Gone { from, first } => ("NOT_KEPT", [("from", from), ("first", first)]),
            MarketError::Store(error) => return error.into(),
        };
        with_reason(Code::OutOfRange, message, reason, facts.map(|(key, value)| (key, value.to_string())))
    }
}

impl From<Unreadable> for Status {
    fn from(error: Unreadable) -> Self {
        with_reason(Code::Internal, error.to_string(), "LOAD_UNREADABLE", [])
    }
}

impl From<RoomError> for Status {
    fn from(error: RoomError) -> Self {
        let message = error.to_string();
        match error {
            RoomError::BadName { field, .. } => bad_request(field, message),
            RoomError::EmptyText | RoomError::LongText(_) => bad_request("text", message),
            RoomError::NameTaken { room, name } => {
                with_reason(Code::AlreadyExists, message, "NAME_TAKEN", [("room", room), ("name", name)])
            }
            RoomError::IdReused { sequence, .. } => {
                let facts = [("sequence", sequence.to_string())];
                with_reason(Code::InvalidArgument, message, "MESSAGE_ID_REUSED", facts)
            }
            RoomError::TakenOver => with_reason(Code::Aborted, message, "TAKEN_OVER", []),
            RoomError::Ahead { after, last } => {
                let sequences = [("after", after.to_string()), ("last", last.to_string())];
                with_reason(Code::OutOfRange, message, "OTHER_HISTORY", sequences)
            }
            RoomError::Store(error) => error.into(),
            RoomError::TooManyRooms => with_reason(Code::ResourceExhausted, message, "TOO_MANY_ROOMS", []),
            RoomError::RoomFull { room } => {
                with_reason(Code::ResourceExhausted, message, "ROOM_FULL", [("room", room)])
            }
            RoomError::FellBehind { next, oldest } => {
                let sequences = [("next", next.to_string()), ("oldest", oldest.to_string())];
                with_reason(Code::OutOfRange, message, "FELL_BEHIND", sequences)
            }
        }
    }
}

impl From<DocumentError> for Status {
    fn from(error: DocumentError) -> Self {
        let message = error.to_string();
        let (code, reason) = match error {
            DocumentError::BadName(_) => return bad_request("document", message),
            DocumentError::Store(error) => return error.into(),
            DocumentError::TooManyDocuments => (Code::ResourceExhausted, "TOO_MANY_DOCUMENTS"),
            DocumentError::TooManyPeers(_) => (Code::ResourceExhausted, "TOO_MANY_PEERS"),
            DocumentError::Unreadable => (Code::InvalidArgument, "NOT_A_TEXT"),
            DocumentError::Refused(refusal) => match refusal {
                Refusal::Malformed(..) | Refusal::Unfit(_) => (Code::InvalidArgument, "NOT_A_TEXT"),
                Refusal::TextTooLong(_) => (Code::InvalidArgument, "TEXT_TOO_LONG"),
                Refusal::OutOfOrder(_) => (Code::FailedPrecondition, "OUT_OF_ORDER"),
                Refusal::HistoryTooLong { .. } => (Code::ResourceExhausted, "HISTORY_TOO_LONG"),
                Refusal::TooManyHeads(_) => (Code::ResourceExhausted, "TOO_MANY_HEADS"),
            },
        };
        with_reason(code, message, reason, [])
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Conflict { what } => {
                with_reason(Code::Aborted, message, "CONFLICT", [("what", what)])
            }
            StoreError::Trimmed { from, first } => {
                let sequences = [("from", from.to_string()), ("first", first.to_string())];
                with_reason(Code::OutOfRange, message, "TRIMMED", sequences)
            }
            StoreError::Full => with_reason(Code::ResourceExhausted, message, "DISK_FULL", []),
            StoreError::Broken(_) => {
                let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
                Status::with_error_details(Code::Unavailable, message, details)
            }
            StoreError::Damaged(_) => with_reason(Code::DataLoss, message, "STORE_DAMAGED", []),
        }
    }
}

/// INVALID_ARGUMENT with a `BadRequest` that names the field.
pub(crate) fn bad_request(field: &str, message: String) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, message.as_str());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// FAILED_PRECONDITION: the message is fine, but not at this place in the stream.
pub(crate) fn out_of_turn(message: &str) -> Status {
    with_reason(Code::FailedPrecondition, message.to_owned(), "OUT_OF_TURN", [])
}

/// UNIMPLEMENTED, with the command that starts a server for the mode.
pub(crate) fn mode_not_served(mode: Mode, served: &[Mode]) -> Status {
    let served = served.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ");
    let command = format!("server {mode}");
    let message = format!(
        "this server serves {served}, not {mode}; `{command}` starts one that does, `server all` one for every mode"
    );
    let facts = [("mode", mode.to_string()), ("served", served), ("command", command)];
    with_reason(Code::Unimplemented, message, "MODE_NOT_SERVED", facts)
}

/// UNAVAILABLE with `RetryInfo`: the same call will do elsewhere, or in a moment.
pub(crate) fn shutting_down() -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    Status::with_error_details(Code::Unavailable, "the server is shutting down", details)
}

fn with_reason<const N: usize>(
    code: Code,
    message: String,
    reason: &str,
    facts: [(&str, String); N],
) -> Status {
    let facts: HashMap<_, _> = facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, ERROR_DOMAIN, facts))
}

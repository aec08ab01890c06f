//! Turns the handlers' refusals into a `Status`. This is the only place that chooses
//! the code of a domain error.

use std::{collections::HashMap, time::Duration};

use domain::{
    arithmetic::Overflow,
    collector::CollectError,
    documents::DocumentError,
    logs::LogError,
    market::MarketError,
    open_files::TooManyOpenFiles,
    quotes::UnknownSymbols,
    resources::BadResource,
    rooms::RoomError,
    store::StoreError,
    system::LoadError,
    tasks::{Fault, TaskError},
    uploads::UploadError,
};
use grpc_wire::{ERROR_DOMAIN, Mode};
use shared_document::Refusal;
use shared_proto::Reason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Why a call is refused. It stands between domain errors and `Status`: `?` cannot
/// convert one into the other, because both are foreign types here.
#[derive(Debug)]
pub(crate) struct Refused(Status);

impl From<Refused> for Status {
    fn from(Refused(status): Refused) -> Self {
        status
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl From<Overflow> for Refused {
    fn from(error: Overflow) -> Self {
        let factors = [("a", error.a.to_string()), ("b", error.b.to_string())];
        Self(with_reason(Code::OutOfRange, error.to_string(), Reason::Int64Overflow, factors))
    }
}

impl From<UnknownSymbols> for Refused {
    fn from(error: UnknownSymbols) -> Self {
        Self(bad_request("symbols", error.to_string()))
    }
}

impl From<MarketError> for Refused {
    fn from(error: MarketError) -> Self {
        let message = error.to_string();
        let (reason, fact) = match error {
            MarketError::OtherEpoch { epoch } => {
                (Reason::OtherEpoch, ("epoch", humantime::format_rfc3339_nanos(epoch).to_string()))
            }
            MarketError::NotYet { next, .. } => (Reason::NotYet, ("next", next.to_string())),
            MarketError::Gone { first, .. } => (Reason::NotKept, ("first", first.to_string())),
            MarketError::Store(error) => return error.into(),
        };
        Self(with_reason(Code::OutOfRange, message, reason, [fact]))
    }
}

impl From<LoadError> for Refused {
    fn from(error: LoadError) -> Self {
        Self(with_reason(Code::Internal, error.to_string(), Reason::LoadUnreadable, []))
    }
}

impl From<RoomError> for Refused {
    fn from(error: RoomError) -> Self {
        let message = error.to_string();
        Self(match error {
            RoomError::BadName { field, .. } => bad_request(field, message),
            RoomError::EmptyText | RoomError::LongText(_) => bad_request("text", message),
            RoomError::NameTaken { room, name } => {
                with_reason(Code::AlreadyExists, message, Reason::NameTaken, [("room", room), ("name", name)])
            }
            RoomError::IdReused { sequence, .. } => {
                let facts = [("sequence", sequence.to_string())];
                with_reason(Code::InvalidArgument, message, Reason::MessageIdReused, facts)
            }
            RoomError::TakenOver => with_reason(Code::Aborted, message, Reason::TakenOver, []),
            RoomError::Ahead { after, last } => {
                let sequences = [("after", after.to_string()), ("last", last.to_string())];
                with_reason(Code::OutOfRange, message, Reason::OtherHistory, sequences)
            }
            RoomError::Store(error) => return error.into(),
            RoomError::TooManyRooms => {
                with_reason(Code::ResourceExhausted, message, Reason::TooManyRooms, [])
            }
            RoomError::TooManyKept(limit) => limit_reached(message, "max_rooms", limit as u64),
            RoomError::Occupied(room) => {
                with_reason(Code::FailedPrecondition, message, Reason::InUse, [("room", room)])
            }
            RoomError::RoomFull { room } => {
                with_reason(Code::ResourceExhausted, message, Reason::RoomFull, [("room", room)])
            }
            RoomError::FellBehind { next, oldest } => {
                let sequences = [("next", next.to_string()), ("oldest", oldest.to_string())];
                with_reason(Code::OutOfRange, message, Reason::FellBehind, sequences)
            }
        })
    }
}

impl From<DocumentError> for Refused {
    fn from(error: DocumentError) -> Self {
        let message = error.to_string();
        let (code, reason) = match error {
            DocumentError::BadName(_) => return Self(bad_request("document", message)),
            DocumentError::Store(error) => return error.into(),
            DocumentError::TooManyKept(limit) => {
                return Self(limit_reached(message, "max_documents", limit as u64));
            }
            DocumentError::Occupied(_) => (Code::FailedPrecondition, Reason::InUse),
            DocumentError::TooManyDocuments | DocumentError::TooManyOperations => {
                (Code::ResourceExhausted, Reason::TooManyDocuments)
            }
            DocumentError::TooManyPeers(_) => (Code::ResourceExhausted, Reason::TooManyPeers),
            DocumentError::Refused(refusal) => match refusal {
                Refusal::Malformed(..) | Refusal::Unfit(_) => (Code::InvalidArgument, Reason::NotAText),
                Refusal::ChangeTooLong(_) => (Code::ResourceExhausted, Reason::ChangeTooLong),
                Refusal::TextTooLong(_) => (Code::InvalidArgument, Reason::TextTooLong),
                Refusal::OutOfOrder(_) => (Code::FailedPrecondition, Reason::OutOfOrder),
                Refusal::HistoryTooLong { .. } => (Code::ResourceExhausted, Reason::HistoryTooLong),
                Refusal::TooManyHeads(_) => (Code::ResourceExhausted, Reason::TooManyHeads),
            },
        };
        Self(with_reason(code, message, reason, []))
    }
}

impl From<CollectError> for Refused {
    fn from(error: CollectError) -> Self {
        let message = error.to_string();
        Self(match error {
            CollectError::BadProducer(_) | CollectError::OtherProducer => bad_request("producer_id", message),
            CollectError::BadSequence => bad_request("sequence", message),
            CollectError::Gap { device, expected, .. } => {
                let facts = [("device", device), ("expected", expected.to_string())];
                with_reason(Code::FailedPrecondition, message, Reason::SequenceGap, facts)
            }
            // With `RetryInfo`: a client that delivers again finds out what is left to
            // do.
            CollectError::Fenced { producer } => {
                let facts = HashMap::from([("producer_id".to_owned(), producer)]);
                let mut details =
                    ErrorDetails::with_error_info(<&str>::from(Reason::ProducerFenced), ERROR_DOMAIN, facts);
                details.set_retry_info(Some(Duration::from_millis(100)));
                Status::with_error_details(Code::Aborted, message, details)
            }
            CollectError::TooManyOpen => {
                let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
                Status::with_error_details(Code::ResourceExhausted, message, details)
            }
            CollectError::TooManyDevices => {
                with_reason(Code::ResourceExhausted, message, Reason::TooManyDevices, [])
            }
            CollectError::TooManyMarks => {
                with_reason(Code::ResourceExhausted, message, Reason::TooManyMarks, [])
            }
            CollectError::Store(error) => return error.into(),
        })
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        Self(match error {
            StoreError::Conflict { what } => {
                with_reason(Code::Aborted, message, Reason::Conflict, [("what", what)])
            }
            StoreError::Trimmed { from, first } => {
                let sequences = [("from", from.to_string()), ("first", first.to_string())];
                with_reason(Code::OutOfRange, message, Reason::Trimmed, sequences)
            }
            StoreError::Full => with_reason(Code::ResourceExhausted, message, Reason::DiskFull, []),
            StoreError::Broken(_) => {
                let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
                Status::with_error_details(Code::Unavailable, message, details)
            }
            StoreError::Damaged(_) => with_reason(Code::DataLoss, message, Reason::StoreDamaged, []),
        })
    }
}

impl From<TaskError> for Refused {
    fn from(error: TaskError) -> Self {
        let message = error.to_string();
        Self(match error {
            TaskError::TooHigh(_) => bad_request("count_primes.below", message),
            TaskError::BadResource(_) => bad_request("compute_checksum.resource", message),
            TaskError::RequestReused { request, task } => {
                let mut details = ErrorDetails::with_bad_request_violation("request_id", message.as_str());
                let facts = facts([("request_id", request.to_string()), ("task", task.to_string())]);
                details.set_error_info(<&str>::from(Reason::RequestIdReused), ERROR_DOMAIN, facts);
                Status::with_error_details(Code::InvalidArgument, message, details)
            }
            TaskError::TooManyOpen => {
                let details = ErrorDetails::with_quota_failure_violation("tasks", message.as_str());
                Status::with_error_details(Code::ResourceExhausted, message, details)
            }
            TaskError::Unknown { id } => not_found("fourmodes.v1.Task", &id.to_string(), message),
            TaskError::Ended { id, ending } => {
                let facts = [("task", id.to_string()), ("ending", ending.to_owned())];
                with_reason(Code::FailedPrecondition, message, Reason::TaskEnded, facts)
            }
            TaskError::Store(error) => return error.into(),
        })
    }
}

impl From<BadResource> for Refused {
    fn from(error: BadResource) -> Self {
        Self(bad_request("resource_name", format!("resource_name {error}")))
    }
}

impl From<UploadError> for Refused {
    fn from(error: UploadError) -> Self {
        let message = error.to_string();
        Self(match error {
            UploadError::NotFound(kind, name) => {
                let details = ErrorDetails::with_resource_info(kind, name, "", message.as_str());
                Status::with_error_details(Code::NotFound, message, details)
            }
            UploadError::TooLarge { limit, .. } => {
                let facts = [("limit_bytes", limit.to_string())];
                with_reason(Code::ResourceExhausted, message, Reason::UploadTooLarge, facts)
            }
            UploadError::TooMany { limit } => {
                let facts = [("limit", limit.to_string())];
                with_reason(Code::ResourceExhausted, message, Reason::TooManyUploads, facts)
            }
            UploadError::TooManyFiles { limit } => limit_reached(message, "max_files", limit as u64),
            UploadError::TooMuchContent { limit } => limit_reached(message, "max_content", limit),
            UploadError::Named(_) => with_reason(Code::FailedPrecondition, message, Reason::InUse, []),
            UploadError::TooManyOpenFiles(error) => return error.into(),
            UploadError::IdInUse(_) => with_reason(Code::AlreadyExists, message, Reason::UploadIdInUse, []),
            UploadError::NotCommittedSize { committed, .. } => {
                let facts = [("committed_size", committed.to_string())];
                with_reason(Code::FailedPrecondition, message, Reason::OffsetNotCommittedSize, facts)
            }
            UploadError::WrongOffset { .. } => bad_request("write_offset", message),
            UploadError::TooLong(_) => bad_request("data", message),
            UploadError::TooShort { .. } => bad_request("finish_write", message),
            UploadError::WrongChecksum { found, declared } => {
                let facts = [("found", found.to_string()), ("declared", declared.to_string())];
                with_reason(Code::InvalidArgument, message, Reason::ChecksumMismatch, facts)
            }
            UploadError::Superseded => with_reason(Code::Aborted, message, Reason::Superseded, []),
            UploadError::DiskFull => with_reason(Code::ResourceExhausted, message, Reason::DiskFull, []),
            UploadError::Disk(_) => with_reason(Code::Internal, message, Reason::DiskFailed, []),
            UploadError::Store(error) => return error.into(),
        })
    }
}

/// The failure of a task, in the terms of a call that failed for the same reason.
impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let code = match fault {
            Fault::NoResource { .. } => Code::NotFound,
            Fault::Unreadable { .. } | Fault::Defect => Code::Internal,
        };
        Self(Status::new(code, fault.to_string()))
    }
}

impl From<LogError> for Refused {
    fn from(error: LogError) -> Self {
        let message = error.to_string();
        Self(match error {
            LogError::BadPath { .. } => bad_request("file", message),
            LogError::NotFound { file } => not_found("file", &file, message),
            LogError::Forbidden { file } => {
                with_reason(Code::PermissionDenied, message, Reason::LogForbidden, [("file", file)])
            }
            LogError::BeyondTheEnd { offset, size } => {
                let facts = [("offset", offset.to_string()), ("size", size.to_string())];
                with_reason(Code::OutOfRange, message, Reason::BeyondTheEnd, facts)
            }
            LogError::TooManyOpenFiles(error) => return error.into(),
            LogError::Unreadable(_) => with_reason(Code::Internal, message, Reason::LogUnreadable, []),
        })
    }
}

impl From<TooManyOpenFiles> for Refused {
    fn from(error: TooManyOpenFiles) -> Self {
        let mut details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
        let limit = facts([("limit", "max_open_files".to_owned()), ("value", error.most.to_string())]);
        details.set_error_info(<&str>::from(grpc_wire::Reason::LimitReached), ERROR_DOMAIN, limit);
        Self(Status::with_error_details(Code::ResourceExhausted, error.to_string(), details))
    }
}

/// RESOURCE_EXHAUSTED: the server has reached a limit on what it keeps.
fn limit_reached(message: String, limit: &str, value: u64) -> Status {
    let limit = [("limit", limit.to_owned()), ("value", value.to_string())];
    with_reason(Code::ResourceExhausted, message, grpc_wire::Reason::LimitReached, limit)
}

/// DATA_LOSS: content is shorter on the disk than when it was committed.
pub(crate) fn content_damaged() -> Status {
    with_reason(Code::DataLoss, "the content on disk is incomplete".to_owned(), Reason::ContentDamaged, [])
}

/// OUT_OF_RANGE: a field of the request is outside the existing range.
pub(crate) fn out_of_range(field: &str, message: String) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, message.as_str());
    Status::with_error_details(Code::OutOfRange, message, details)
}

/// INVALID_ARGUMENT with a `BadRequest` that names the field.
pub(crate) fn bad_request(field: &str, message: String) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, message.as_str());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// FAILED_PRECONDITION: the message is valid, but not at this point of the stream.
pub(crate) fn out_of_turn(message: &str) -> Status {
    with_reason(Code::FailedPrecondition, message.to_owned(), Reason::OutOfTurn, [])
}

/// FAILED_PRECONDITION: the server was started without an option that the call needs.
pub(crate) fn no_log_root() -> Status {
    let message = "this server has no log directory; start it with --log-root DIR";
    with_reason(Code::FailedPrecondition, message.to_owned(), Reason::NoLogRoot, [])
}

/// NOT_FOUND: the server has no observation of a call with that id.
pub(crate) fn no_observation(call_id: &str) -> Status {
    let message = format!("this server has seen no probe with the call_id {call_id}, or 1,024 newer ones");
    not_found("probe", call_id, message)
}

fn not_found(kind: &str, name: &str, message: String) -> Status {
    let details = ErrorDetails::with_resource_info(kind, name, "", message.as_str());
    Status::with_error_details(Code::NotFound, message, details)
}

/// UNIMPLEMENTED, with the command that starts a server for the mode.
pub(crate) fn mode_not_served(mode: Mode, served: &[Mode]) -> Status {
    let served = served.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ");
    let command = format!("fourmodes-server {mode}");
    let message = format!(
        "this server serves {served}, not {mode}; `{command}` starts a server that does, `fourmodes-server all` serves every mode"
    );
    let facts = [("mode", mode.to_string()), ("served", served), ("command", command)];
    with_reason(Code::Unimplemented, message, Reason::ModeNotServed, facts)
}

pub(crate) fn with_reason<const N: usize>(
    code: Code,
    message: String,
    reason: impl Into<&'static str>,
    given: [(&str, String); N],
) -> Status {
    let details = ErrorDetails::with_error_info(reason.into(), ERROR_DOMAIN, facts(given));
    Status::with_error_details(code, message, details)
}

pub(crate) fn facts<const N: usize>(facts: [(&str, String); N]) -> HashMap<String, String> {
    facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_the_same_refusal_whatever_was_to_be_written() {
        let refusals: [Refused; 6] = [
            CollectError::Store(StoreError::Full).into(),
            DocumentError::Store(StoreError::Full).into(),
            MarketError::Store(StoreError::Full).into(),
            RoomError::Store(StoreError::Full).into(),
            TaskError::Store(StoreError::Full).into(),
            UploadError::Store(StoreError::Full).into(),
        ];
        for refused in refusals {
            let status = Status::from(refused);
            let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
            assert_eq!((status.code(), reason.as_deref()), (Code::ResourceExhausted, Some("DISK_FULL")));
        }
    }
}

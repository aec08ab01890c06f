use strum::{EnumString, IntoStaticStr};

/// Why the server refused or ended a call: the `reason` of the
/// `google.rpc.ErrorInfo` in its status, whose `domain` is
/// [`ERROR_DOMAIN`](grpc_wire::ERROR_DOMAIN). On the wire it is in upper case with
/// underscores.
#[allow(missing_docs, reason = "the names say it, and each is sent with a message")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    BeyondTheEnd,
    ChangeTooLong,
    ChecksumMismatch,
    Conflict,
    ContentDamaged,
    DiskFailed,
    DiskFull,
    FellBehind,
    HistoryTooLong,
    InUse,
    Int64Overflow,
    LoadUnreadable,
    LogForbidden,
    LogUnreadable,
    MessageIdReused,
    ModeNotServed,
    NameTaken,
    NoLogRoot,
    NotAText,
    NotKept,
    NotYet,
    OffsetNotCommittedSize,
    OtherEpoch,
    OtherHistory,
    OutOfOrder,
    OutOfTurn,
    ProducerFenced,
    RequestIdReused,
    RoomFull,
    SequenceGap,
    StoreDamaged,
    Superseded,
    TakenOver,
    TaskEnded,
    TextTooLong,
    TooManyDevices,
    TooManyDocuments,
    TooManyHeads,
    TooManyMarks,
    TooManyPeers,
    TooManyRooms,
    TooManyUploads,
    Trimmed,
    UploadIdInUse,
    UploadTooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_by_the_name_that_it_has_on_the_wire() {
        for (reason, name) in [(Reason::Int64Overflow, "INT64_OVERFLOW"), (Reason::NotAText, "NOT_A_TEXT")] {
            assert_eq!(<&str>::from(reason), name);
            assert_eq!(name.parse(), Ok(reason));
        }
        for (reason, name) in [
            (grpc_wire::Reason::Http2Needed, "HTTP2_NEEDED"),
            (grpc_wire::Reason::LimitReached, "LIMIT_REACHED"),
        ] {
            assert_eq!(<&str>::from(reason), name);
            assert_eq!(name.parse(), Ok(reason));
        }
        for unknown in ["", "STACK", "limit_reached", "NOTHING_OF_OURS"] {
            assert!(unknown.parse::<Reason>().is_err(), "{unknown:?}");
            assert!(unknown.parse::<grpc_wire::Reason>().is_err(), "{unknown:?}");
        }
    }
}

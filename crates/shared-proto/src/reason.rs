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
    ChecksumMismatch,
    Conflict,
    ContentDamaged,
    DiskFailed,
    DiskFull,
    FellBehind,
    HistoryTooLong,
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
    /// The stack's, which any service may get.
    #[strum(disabled, transparent)]
    Stack(grpc_wire::Reason),
}

impl Reason {
    /// The reason that an `ErrorInfo` of our domain names, if it is known here.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok().or_else(|| name.parse().map(Self::Stack).ok())
    }
}

impl From<grpc_wire::Reason> for Reason {
    fn from(reason: grpc_wire::Reason) -> Self {
        Self::Stack(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_by_the_name_that_it_has_on_the_wire() {
        for (reason, name) in [
            (Reason::Int64Overflow, "INT64_OVERFLOW"),
            (Reason::NotAText, "NOT_A_TEXT"),
            (grpc_wire::Reason::Http2Needed.into(), "HTTP2_NEEDED"),
            (grpc_wire::Reason::LimitReached.into(), "LIMIT_REACHED"),
        ] {
            assert_eq!(<&str>::from(reason), name);
            assert_eq!(Reason::from_name(name), Some(reason));
        }
        for unknown in ["", "STACK", "limit_reached", "NOTHING_OF_OURS"] {
            assert_eq!(Reason::from_name(unknown), None, "{unknown:?}");
        }
    }
}

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
}

/// The reason of any `ErrorInfo` that our server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnyReason {
    /// A handler gave it.
    Product(Reason),
    /// The stack gave it. Any service may get it.
    Stack(grpc_wire::Reason),
}

impl AnyReason {
    /// The reason that has this name on the wire, if it is known here.
    pub fn from_name(name: &str) -> Option<Self> {
        let product = name.parse().map(Self::Product);
        product.or_else(|_| name.parse().map(Self::Stack)).ok()
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Product(reason) => reason.into(),
            Self::Stack(reason) => reason.into(),
        }
    }
}

impl From<Reason> for AnyReason {
    fn from(reason: Reason) -> Self {
        Self::Product(reason)
    }
}

impl From<grpc_wire::Reason> for AnyReason {
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
            (Reason::Int64Overflow.into(), "INT64_OVERFLOW"),
            (Reason::NotAText.into(), "NOT_A_TEXT"),
            (grpc_wire::Reason::Http2Needed.into(), "HTTP2_NEEDED"),
            (grpc_wire::Reason::LimitReached.into(), "LIMIT_REACHED"),
        ] {
            let reason: AnyReason = reason;
            assert_eq!(reason.name(), name);
            assert_eq!(AnyReason::from_name(name), Some(reason));
        }
        for unknown in ["", "STACK", "limit_reached", "NOTHING_OF_OURS"] {
            assert_eq!(AnyReason::from_name(unknown), None, "{unknown:?}");
        }
    }
}

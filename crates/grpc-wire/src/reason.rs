use strum::{EnumString, IntoStaticStr};

/// The `domain` of every `google.rpc.ErrorInfo` that a Four Modes server sends.
pub const ERROR_DOMAIN: &str = "fourmodes";

/// Why the stack refused or ended a call: the `reason` of its
/// `google.rpc.ErrorInfo`, which on the wire is in upper case with underscores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// A limit of the server was reached. The metadata name it and its value.
    LimitReached,
    /// The call has no token.
    TokenMissing,
    /// The server does not know the token.
    TokenUnknown,
    /// The caller may not use methods of this mode.
    ModeNotAllowed,
    /// The call asked for this failure.
    FaultInjected,
    /// The call came by a protocol that has no streams.
    Http2Needed,
}

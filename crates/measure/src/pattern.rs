//! The same job in each pattern: N messages of S bytes, delivered or received, and
//! known to have arrived.

use clap::ValueEnum;
use grpc_wire::Mode;
use serde::Serialize;

/// How messages pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Unary calls, each after the answer to the one before
    Unary,
    /// Unary calls, --concurrency at a time
    UnaryInFlight,
    /// A stream to the server, answered at its end
    ClientStreaming,
    /// A stream from the server
    ServerStreaming,
    /// A stream in both directions, each message after the answer to the one before
    BidiPingPong,
    /// A stream in both directions, with --concurrency unanswered messages
    BidiPipelined,
    /// A stream to the server, many messages packed into one as numbers
    Columnar,
}

/// Where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Goal {
    Deliver,
    Receive,
    /// What a method of anybody's does.
    Call,
}

/// What the times of a way are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TimeOf {
    /// From when a message is sent, or with a rate was due, to its answer.
    Answer,
    /// From one message to the next; none for those that come together.
    Gap,
    /// From when a piece of a stream is handed over until the next one may be.
    Send,
    /// With a rate: from when a message was due until the stream has taken it.
    Wait,
    /// With a rate: from when a call was due until it has ended.
    Call,
}

/// All that is measured, in the order in which it is.
pub(crate) const ALL: [(Goal, Pattern); 11] = [
    (Goal::Deliver, Pattern::Unary),
    (Goal::Deliver, Pattern::UnaryInFlight),
    (Goal::Deliver, Pattern::BidiPingPong),
    (Goal::Deliver, Pattern::BidiPipelined),
    (Goal::Deliver, Pattern::ClientStreaming),
    (Goal::Deliver, Pattern::Columnar),
    (Goal::Receive, Pattern::Unary),
    (Goal::Receive, Pattern::UnaryInFlight),
    (Goal::Receive, Pattern::BidiPingPong),
    (Goal::Receive, Pattern::BidiPipelined),
    (Goal::Receive, Pattern::ServerStreaming),
];

/// The ways that a method of a mode has.
pub(crate) fn of_call(mode: Mode) -> Vec<(Goal, Pattern)> {
    let patterns: &[Pattern] = match mode {
        Mode::Unary => &[Pattern::Unary, Pattern::UnaryInFlight],
        Mode::ServerStreaming => &[Pattern::ServerStreaming],
        Mode::ClientStreaming => &[Pattern::ClientStreaming],
        Mode::BidiStreaming => &[Pattern::BidiPingPong, Pattern::BidiPipelined],
    };
    patterns.iter().map(|pattern| (Goal::Call, *pattern)).collect()
}

/// The most bytes that go into a batch: a frame of HTTP/2 has room for them.
const BATCH_BYTES: u64 = 64 << 10;
/// The most messages that go into one.
const BATCH: u64 = 1000;

impl Goal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::Receive => "receive",
            Self::Call => "call",
        }
    }
}

impl TimeOf {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Gap => "gap",
            Self::Send => "send",
            Self::Wait => "wait",
            Self::Call => "call",
        }
    }
}

impl Pattern {
    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Unary => "unary one at a time",
            Self::UnaryInFlight => "unary in flight",
            Self::ClientStreaming => "client streaming",
            Self::ServerStreaming => "server streaming",
            Self::BidiPingPong => "bidi ping-pong",
            Self::BidiPipelined => "bidi pipelined",
            Self::Columnar => "columnar",
        }
    }

    /// How many connections it uses.
    pub(crate) fn connections(self, connections: usize) -> usize {
        if matches!(self, Self::Unary | Self::BidiPingPong) { 1 } else { connections }
    }

    /// What its times are.
    pub(crate) fn time_of(self, paced: bool) -> TimeOf {
        match self {
            Self::ServerStreaming if paced => TimeOf::Call,
            Self::ServerStreaming => TimeOf::Gap,
            Self::ClientStreaming | Self::Columnar if paced => TimeOf::Wait,
            Self::ClientStreaming | Self::Columnar => TimeOf::Send,
            _ => TimeOf::Answer,
        }
    }

    /// Why it makes no sense, if it makes none.
    pub(crate) fn left_out(self, goal: Goal, size: u64, paced: bool) -> Option<String> {
        match self {
            _ if goal == Goal::Call => None,
            Self::ServerStreaming if paced => {
                Some("--rate applies to what the client sends, but here the server sends".to_owned())
            }
            Self::Columnar if batch(size) < 2 => {
                Some(format!("a batch has at most {} KiB: one such message would fill it", BATCH_BYTES >> 10))
            }
            _ => None,
        }
    }
}

/// How many messages of a size are packed into one.
pub(crate) fn batch(size: u64) -> u64 {
    (BATCH_BYTES / values(size) / 8).clamp(1, BATCH)
}

/// How many numbers of 64 bits have the bytes of a message.
pub(crate) fn values(size: u64) -> u64 {
    size.div_ceil(8).max(1)
}

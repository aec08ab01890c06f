//! The same job in each way: N messages of S bytes, delivered or received, and
//! known to have arrived.

mod receive;
mod stream;
mod unary;

use std::sync::Arc;

use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::Streaming;

use super::{
    line::Line,
    load::Load,
    measure::{Sending, Tally, Times},
};
use crate::failure::Failure;

/// How messages pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// Unary calls, each after the answer to the one before
    Unary,
    /// Unary calls, so many at a time as --concurrency says
    UnaryInFlight,
    /// A stream to the server, answered at its end
    ClientStreaming,
    /// A stream from the server
    ServerStreaming,
    /// A stream in both directions, each message after the answer to the one before
    BidiPingPong,
    /// A stream in both directions, so many unanswered as --concurrency says
    BidiPipelined,
    /// A stream to the server, many messages packed into one as numbers
    Columnar,
}

/// Where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Goal {
    Deliver,
    Receive,
}

/// What the times of a way are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TimeOf {
    /// From when a message is sent, or with a rate was due, to its answer.
    Answer,
    /// From one message to the next; none for those that come together.
    Gap,
    /// From when a piece of a stream is handed over until the next one may be.
    Send,
    /// With a rate: from when a message was due until the stream has taken it.
    Wait,
}

/// All that is measured, in the order in which it is.
pub(super) const ALL: [(Goal, Way); 11] = [
    (Goal::Deliver, Way::Unary),
    (Goal::Deliver, Way::UnaryInFlight),
    (Goal::Deliver, Way::BidiPingPong),
    (Goal::Deliver, Way::BidiPipelined),
    (Goal::Deliver, Way::ClientStreaming),
    (Goal::Deliver, Way::Columnar),
    (Goal::Receive, Way::Unary),
    (Goal::Receive, Way::UnaryInFlight),
    (Goal::Receive, Way::BidiPingPong),
    (Goal::Receive, Way::BidiPipelined),
    (Goal::Receive, Way::ServerStreaming),
];

/// The most bytes that go into a batch: a frame of HTTP/2 has room for them.
const BATCH_BYTES: u64 = 64 << 10;
/// The most messages that go into one.
const BATCH: u64 = 1000;

impl Goal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::Receive => "receive",
        }
    }
}

impl TimeOf {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Gap => "gap",
            Self::Send => "send",
            Self::Wait => "wait",
        }
    }
}

impl Way {
    /// For people.
    pub(super) fn title(self) -> &'static str {
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
    pub(super) fn connections(self, connections: usize) -> usize {
        if matches!(self, Self::Unary | Self::BidiPingPong) { 1 } else { connections }
    }

    /// What its times are.
    pub(super) fn time_of(self, paced: bool) -> TimeOf {
        match self {
            Self::ServerStreaming => TimeOf::Gap,
            Self::ClientStreaming | Self::Columnar if paced => TimeOf::Wait,
            Self::ClientStreaming | Self::Columnar => TimeOf::Send,
            _ => TimeOf::Answer,
        }
    }

    /// Why it makes no sense, if it makes none.
    pub(super) fn left_out(self, size: u64, paced: bool) -> Option<String> {
        match self {
            Self::ServerStreaming if paced => {
                Some("--rate is for what the client sends, and here the server sends".to_owned())
            }
            Self::Columnar if batch(size) < 2 => {
                Some(format!("a batch has {} KiB at most: one such message would fill it", BATCH_BYTES >> 10))
            }
            _ => None,
        }
    }
}

/// How many messages of a size are packed into one.
pub(super) fn batch(size: u64) -> u64 {
    (BATCH_BYTES / values(size) / 8).clamp(1, BATCH)
}

/// How many numbers of 64 bits have the bytes of a message.
fn values(size: u64) -> u64 {
    size.div_ceil(8).max(1)
}

/// One measurement.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) goal: Goal,
    pub(super) way: Way,
    pub(super) size: u64,
    /// How many unanswered, over all connections.
    pub(super) in_flight: usize,
    pub(super) load: Arc<Load>,
    pub(super) times: Arc<Times>,
    pub(super) sending: Arc<Sending>,
    /// Messages for each second of a stream, as far as it is known.
    pub(super) expected: Option<f64>,
}

impl Work {
    /// Does all of it.
    ///
    /// # Errors
    ///
    /// The first one of any call: then nothing is known of the others.
    pub(super) async fn run(&self, lines: &[Line]) -> Result<Tally, Failure> {
        let mut tasks = JoinSet::new();
        for (index, line) in lines.iter().enumerate() {
            let share = share(self.in_flight as u64, lines.len(), index);
            let (work, sending) = (self.clone(), &self.sending);
            match self.way {
                Way::Unary => drop(tasks.spawn(unary::unary(line.client(), work))),
                Way::UnaryInFlight => {
                    (0..share).for_each(|_| drop(tasks.spawn(unary::unary(line.client(), work.clone()))));
                }
                Way::ClientStreaming => {
                    tasks.spawn(stream::client_streaming(line.streaming(sending), work));
                }
                Way::Columnar => {
                    tasks.spawn(stream::columnar(line.streaming(sending), work));
                }
                Way::BidiPingPong => {
                    tasks.spawn(stream::bidi(line.streaming(sending), work, 1));
                }
                Way::BidiPipelined => {
                    tasks.spawn(stream::bidi(line.streaming(sending), work, share.max(1) as usize));
                }
                Way::ServerStreaming => {
                    let messages = self::share(self.load.total(), lines.len(), index);
                    tasks.spawn(receive::server_streaming(line.client(), work, messages));
                }
            }
        }
        let mut tally = Tally::default();
        while let Some(ended) = tasks.join_next().await {
            tally.add(ended.map_err(|error| Failure::cut_short(&error))??);
        }
        Ok(tally)
    }

    /// What goes to the server in a message, and how much it is to answer.
    fn exchange(&self) -> (Bytes, u32) {
        match self.goal {
            Goal::Deliver => (vec![0x5a; self.size as usize].into(), 0),
            Goal::Receive => (Bytes::new(), self.size as u32),
        }
    }

    /// An answer of another size is none to the question.
    fn check(&self, payload: &Bytes) -> Result<(), Failure> {
        let expected = if self.goal == Goal::Receive { self.size } else { 0 };
        match payload.len() as u64 {
            length if length == expected => Ok(()),
            other => Err(Failure::answer(format!("a message has {other} B instead of {expected} B"))),
        }
    }
}

/// As even as it gets.
fn share(all: u64, of: usize, index: usize) -> u64 {
    all / of as u64 + u64::from((index as u64) < all % of as u64)
}

/// The next message of a stream. `waits` is called when it is not there yet.
async fn next<T>(responses: &mut Streaming<T>, mut waits: impl FnMut()) -> Result<Option<T>, Failure> {
    use tokio_stream::Stream as _;
    let polled = std::future::poll_fn(|cx| {
        let polled = std::pin::Pin::new(&mut *responses).poll_next(cx);
        if polled.is_pending() {
            waits();
        }
        polled
    });
    Ok(polled.await.transpose()?)
}

/// That as many have arrived as were sent.
fn all_arrived(arrived: u64, sent: u64) -> Result<(), Failure> {
    match arrived == sent {
        true => Ok(()),
        false => Err(Failure::answer(format!("{arrived} of {sent} messages have arrived"))),
    }
}

//! What is called: the method, its messages, and what its answers have to be.

use std::sync::Arc;

use bytes::Bytes;
use grpc_wire::Mode;
use http::{HeaderMap, uri::PathAndQuery};
use prost::Message;
use shared_proto::fourmodes::v1::{
    MeasureBidiStreamingRequest, MeasureClientStreamingRequest, MeasureClientStreamingResponse,
    MeasureServerStreamingRequest, MeasureUnaryRequest, MeasureUnaryResponse,
};

use crate::{
    pattern::{Goal, Pattern, batch, values},
    work::{Error, all_arrived},
};

/// A method of any server, and what to send to it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The path of the method.
    pub path: PathAndQuery,
    /// Its mode.
    pub mode: Mode,
    /// Encoded, one at least. They are sent in turn.
    pub messages: Vec<Bytes>,
    /// The metadata of each call.
    pub metadata: HeaderMap,
    /// How many messages a call with many requests sends. Without it, one call sends
    /// all of them.
    pub per_call: Option<u64>,
}

/// What one way calls.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) path: PathAndQuery,
    /// Encoded once, each behind its prefix.
    frames: Arc<[Bytes]>,
    /// How many of the counted messages are in one of gRPC's.
    pub(crate) batch: u64,
    pub(crate) per_call: Option<u64>,
    pub(crate) own: Option<Own>,
}

/// Messages of our own service, which does as it is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    goal: Goal,
    size: u64,
}

impl Job {
    /// A method of anybody's service.
    pub(crate) fn call(call: &Call) -> Self {
        let Call { path, messages, per_call, .. } = call.clone();
        Self { path, frames: messages.iter().map(framed).collect(), batch: 1, per_call, own: None }
    }

    /// The method of our own service that does the work of a way.
    pub(crate) fn own(goal: Goal, pattern: Pattern, size: u64) -> Self {
        let own = Own { goal, size };
        let (payload, response_bytes) = match goal {
            Goal::Receive => (Bytes::new(), size as u32),
            Goal::Deliver | Goal::Call => (vec![0x5a; size as usize].into(), 0),
        };
        let batch = if pattern == Pattern::Columnar { batch(size) } else { 1 };
        let (path, message) = match pattern {
            Pattern::Unary | Pattern::UnaryInFlight => {
                ("MeasureUnary", MeasureUnaryRequest { payload, response_bytes }.encode_to_vec())
            }
            Pattern::ClientStreaming => (
                "MeasureClientStreaming",
                MeasureClientStreamingRequest { payload, values: Vec::new() }.encode_to_vec(),
            ),
            Pattern::Columnar => ("MeasureClientStreaming", own.columns(batch)),
            // How many it is asked for is not known before.
            Pattern::ServerStreaming => ("MeasureServerStreaming", Vec::new()),
            Pattern::BidiPingPong | Pattern::BidiPipelined => (
                "MeasureBidiStreaming",
                MeasureBidiStreamingRequest { payload, response_bytes }.encode_to_vec(),
            ),
        };
        #[expect(clippy::expect_used, reason = "the names are those above")]
        let path = format!("/fourmodes.v1.MeasureService/{path}").try_into().expect("a path");
        Self { path, frames: Arc::new([framed(&message)]), batch, per_call: None, own: Some(own) }
    }

    /// What is sent, one after the other: so many of the counted messages in each as
    /// are asked for.
    pub(crate) fn source(&self) -> impl FnMut(u64) -> Bytes + Send + Sync + 'static {
        let (mut frames, own, batch) = (self.frames(), self.own, self.batch);
        move |messages| match own {
            Some(own) if messages < batch => own.columns(messages).into(),
            _ => frames().slice(PREFIX..),
        }
    }

    /// The same for calls with one request, with gRPC's prefix.
    pub(crate) fn frames(&self) -> impl FnMut() -> Bytes + Send + Sync + 'static {
        let all = self.frames.clone();
        let mut turn = 0;
        move || {
            let frame = all.get(turn).cloned().unwrap_or_else(|| framed([]));
            turn = (turn + 1) % all.len().max(1);
            frame
        }
    }

    /// An answer of another size is none to the question.
    pub(crate) fn check(&self, answer: Bytes) -> Result<(), Error> {
        let Some(Own { goal, size }) = self.own else { return Ok(()) };
        // The answers of all modes have their bytes in the same field.
        let answer: MeasureUnaryResponse = decoded(answer)?;
        let expected = if goal == Goal::Receive { size } else { 0 };
        match answer.payload.len() as u64 {
            length if length == expected => Ok(()),
            other => Err(Error::Answer(format!("a message has {other} B instead of {expected} B"))),
        }
    }

    /// Whether the one answer to a stream says that all of it has arrived.
    pub(crate) fn check_collected(&self, answer: Bytes, sent: u64) -> Result<(), Error> {
        let Some(Own { size, .. }) = self.own else { return Ok(()) };
        let answer: MeasureClientStreamingResponse = decoded(answer)?;
        if self.batch > 1 {
            return all_arrived(answer.values, sent * values(size));
        }
        all_arrived(answer.messages, sent)?;
        all_arrived(answer.bytes, sent * size)
    }
}

/// The length of gRPC's prefix of a message.
pub(crate) const PREFIX: usize = 5;

fn framed(message: impl AsRef<[u8]>) -> Bytes {
    let message = message.as_ref();
    let length = message.len() as u32;
    [&[0], &length.to_be_bytes()[..], message].concat().into()
}

impl Own {
    /// The bytes of many messages as numbers of 64 bits, in one message.
    fn columns(self, messages: u64) -> Vec<u8> {
        let values = vec![0x5a5a_5a5a_5a5a_5a5a; (values(self.size) * messages) as usize];
        MeasureClientStreamingRequest { values, ..Default::default() }.encode_to_vec()
    }

    /// What asks for a stream of `count` messages.
    pub(crate) fn ask_for(self, count: u64) -> Bytes {
        MeasureServerStreamingRequest { count, response_bytes: self.size as u32 }.encode_to_vec().into()
    }
}

fn decoded<M: Message + Default>(answer: Bytes) -> Result<M, Error> {
    M::decode(answer).map_err(|error| Error::Answer(format!("an answer is no message: {error}")))
}

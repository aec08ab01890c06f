//! One measurement, and what can go wrong with it.

use std::{future, io, path::PathBuf, pin::Pin, sync::Arc};

use bytes::Bytes;
use tokio::task::JoinError;
use tokio_stream::Stream as _;
use tonic::{Status, Streaming};
use transport::CallError;

use crate::{
    load::Load,
    pattern::{Goal, Pattern},
    times::{Sending, Times},
};

/// Why not all of it was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call, or the connection for it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The first call of all.
    #[error(transparent)]
    Unanswered(CallError),
    /// The server answered, but not with what its proto promises.
    #[error("{0}")]
    Answer(String),
    /// stdout takes no more.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// The picture cannot be written.
    #[error("{} cannot be written: {error}", .file.display())]
    Plot {
        /// Where.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The work was cut short.
    #[error("the work was interrupted: {0}")]
    CutShort(#[from] JoinError),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        CallError::from(status).into()
    }
}

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) goal: Goal,
    pub(crate) pattern: Pattern,
    pub(crate) size: u64,
    /// How many unanswered, over all connections.
    pub(crate) in_flight: usize,
    pub(crate) load: Arc<Load>,
    pub(crate) times: Arc<Times>,
    pub(crate) sending: Arc<Sending>,
    /// Messages for each second of a stream, as far as it is known.
    pub(crate) expected: Option<f64>,
}

impl Work {
    /// What goes to the server in a message, and how much it is to answer.
    pub(crate) fn exchange(&self) -> (Bytes, u32) {
        match self.goal {
            Goal::Deliver => (vec![0x5a; self.size as usize].into(), 0),
            Goal::Receive => (Bytes::new(), self.size as u32),
        }
    }

    /// An answer of another size is none to the question.
    pub(crate) fn check(&self, payload: &Bytes) -> Result<(), Error> {
        let expected = if self.goal == Goal::Receive { self.size } else { 0 };
        match payload.len() as u64 {
            length if length == expected => Ok(()),
            other => Err(Error::Answer(format!("a message has {other} B instead of {expected} B"))),
        }
    }
}

/// The next message of a stream. `waits` is called when it is not there yet.
pub(crate) async fn next<T>(
    responses: &mut Streaming<T>,
    mut waits: impl FnMut(),
) -> Result<Option<T>, Error> {
    let polled = future::poll_fn(|cx| {
        let polled = Pin::new(&mut *responses).poll_next(cx);
        if polled.is_pending() {
            waits();
        }
        polled
    });
    Ok(polled.await.transpose()?)
}

/// That as many have arrived as were sent.
pub(crate) fn all_arrived(arrived: u64, sent: u64) -> Result<(), Error> {
    match arrived == sent {
        true => Ok(()),
        false => Err(Error::Answer(format!("{arrived} of {sent} messages arrived"))),
    }
}

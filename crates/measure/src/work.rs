//! One measurement, and what can go wrong with it.

use std::{future, io, path::PathBuf, pin::Pin, sync::Arc};

use tokio::task::JoinError;
use tokio_stream::Stream as _;
use tonic::{Status, Streaming};
use transport::CallError;

use crate::{
    job::Job,
    load::Load,
    pattern::Pattern,
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
    /// None of the ways that were asked for is one of the method's.
    #[error("{0}")]
    NoWay(String),
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
    /// The threads for the connections cannot be started.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
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
    pub(crate) pattern: Pattern,
    pub(crate) job: Job,
    /// How many unanswered, over all connections.
    pub(crate) in_flight: usize,
    pub(crate) load: Arc<Load>,
    pub(crate) times: Arc<Times>,
    pub(crate) sending: Arc<Sending>,
    /// Messages for each second of a stream, as far as it is known.
    pub(crate) expected: Option<f64>,
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

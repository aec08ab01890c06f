//! Performs a script: makes the messages, reads those of the client, ends.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use shared_proto::fourmodes::v1 as pb;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, sleep_until},
};
use tokio_stream::Stream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::{
    observation::wire,
    script::{Ending, Script, Source, Step},
    watch::Watched,
};
use crate::refused::bad_request;

/// How much is kept of what the client sent and a later step returns, in bytes.
/// More waits in the windows of HTTP/2, and then in the client.
const KEPT: u32 = 4 << 20;

/// What a message costs at least.
const LEAST: u32 = 1 << 10;

/// One call, while it is performed. May be dropped at any await.
pub(super) struct Performance {
    watched: Watched,
    steps: Vec<Step>,
    ending: Ending,
    inbox: Option<Inbox>,
}

impl Performance {
    /// Of a client that has sent all it had.
    pub(super) fn new(watched: Watched, script: Script) -> Self {
        Self { watched, steps: script.steps, ending: script.ending, inbox: None }
    }

    /// Of a client that goes on.
    pub(super) fn with<M: Message>(watched: Watched, script: Script, requests: Streaming<M>) -> Self {
        let inbox = Some(Inbox::open(&watched, &script, requests));
        Self { inbox, ..Self::new(watched, script) }
    }

    /// Where the mode has one response: the payload of the last message.
    pub(super) async fn last(mut self) -> Result<Bytes, Status> {
        let mut last = Bytes::new();
        for step in std::mem::take(&mut self.steps) {
            let payload = step.payload();
            for _ in 0..step.repeat {
                let Some(payload) = self.make(&step, &payload).await? else { break };
                last = payload;
            }
        }
        self.end().await?;
        self.watched.call.sent(last.len());
        Ok(last)
    }

    /// Where it has many.
    pub(super) fn all<M: From<Response>>(mut self) -> impl Stream<Item = Result<M, Status>> {
        async_stream::try_stream! {
            let mut number = 0;
            for step in std::mem::take(&mut self.steps) {
                let payload = step.payload();
                for _ in 0..step.repeat {
                    let Some(payload) = self.make(&step, &payload).await? else { break };
                    number += 1;
                    yield self.response(number, payload, number == 1).into();
                }
            }
            if self.end().await? {
                yield self.response(number + 1, Bytes::new(), true).into();
            }
        }
    }

    /// `None` when the step returns what the client sends, and that was all.
    async fn make(&mut self, step: &Step, payload: &Bytes) -> Result<Option<Bytes>, Status> {
        let payload = match (&step.source, &mut self.inbox) {
            (Source::Echo, Some(inbox)) => match inbox.next().await? {
                Some(payload) => payload,
                None => return Ok(None),
            },
            _ => payload.clone(),
        };
        self.pause(step.delay).await?;
        Ok(Some(payload))
    }

    fn response(&self, number: u32, payload: Bytes, with_observation: bool) -> Response {
        let call = &self.watched.call;
        call.sent(payload.len());
        let observation = with_observation.then(|| call.observation());
        Response { number, payload, sent: wire(call.begun.elapsed()), observation }
    }

    /// Whether there is one more response, with what was seen.
    async fn end(&mut self) -> Result<bool, Status> {
        match &self.ending {
            Ending::AfterHalfClose { with_observation } => {
                let with_observation = *with_observation;
                if let Some(inbox) = &mut self.inbox {
                    inbox.end().await?;
                }
                Ok(with_observation)
            }
            Ending::Status(status) if status.code() != tonic::Code::Ok => Err(status.clone()),
            // What is left to do is done on the way out.
            Ending::Status(_) | Ending::Reset(_) => Ok(false),
            Ending::Stall(time) => {
                let time = *time;
                self.pause(time).await?;
                Ok(false)
            }
        }
    }

    /// Waits, and reads meanwhile. Ends when the client has made a mistake.
    async fn pause(&mut self, time: Duration) -> Result<(), Status> {
        if time.is_zero() {
            return Ok(());
        }
        let _silent = self.watched.suspend_idle_timeout();
        match &mut self.inbox {
            Some(inbox) => inbox.meanwhile(sleep(time)).await,
            None => {
                sleep(time).await;
                Ok(())
            }
        }
    }
}

/// A message of a call with many of them.
pub(super) struct Response {
    number: u32,
    payload: Bytes,
    sent: Option<prost_types::Duration>,
    observation: Option<pb::Observation>,
}

impl From<Response> for pb::ServerStreamingResponse {
    fn from(Response { number, payload, sent, observation }: Response) -> Self {
        Self { number, payload, sent, observation }
    }
}

impl From<Response> for pb::BidiStreamingResponse {
    fn from(Response { number, payload, sent, observation }: Response) -> Self {
        Self { number, payload, sent, observation }
    }
}

/// A message of a client that sends many.
pub(super) trait Message: Send + 'static {
    fn parts(self) -> (Option<pb::Script>, Bytes);
}

impl Message for pb::ClientStreamingRequest {
    fn parts(self) -> (Option<pb::Script>, Bytes) {
        (self.script, self.payload)
    }
}

impl Message for pb::BidiStreamingRequest {
    fn parts(self) -> (Option<pb::Script>, Bytes) {
        (self.script, self.payload)
    }
}

/// What the client sends after its first message. A task of its own reads it: a
/// response that is held up by a client that does not read it holds up nothing
/// else.
struct Inbox {
    reader: AbortOnDropHandle<Result<(), Status>>,
    /// The reader has ended and was asked how.
    is_over: bool,
    kept: mpsc::UnboundedReceiver<Kept>,
}

struct Kept {
    payload: Bytes,
    _place: OwnedSemaphorePermit,
}

impl Inbox {
    fn open<M: Message>(watched: &Watched, script: &Script, requests: Streaming<M>) -> Self {
        let (sender, kept) = mpsc::unbounded_channel();
        let reading = read(watched.clone(), script.read_delay, requests, script.echoes(), sender);
        Self { reader: AbortOnDropHandle::new(tokio::spawn(reading)), is_over: false, kept }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        match self.kept.recv().await {
            Some(Kept { payload, .. }) => Ok(Some(payload)),
            None => self.end().await.map(|()| None),
        }
    }

    /// Until the client has ended its half.
    async fn end(&mut self) -> Result<(), Status> {
        if self.is_over {
            return Ok(());
        }
        let read = (&mut self.reader).await;
        self.is_over = true;
        read.unwrap_or_else(|error| Err(Status::internal(format!("reading the requests failed: {error}"))))
    }

    async fn meanwhile(&mut self, work: impl Future<Output = ()>) -> Result<(), Status> {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            () = &mut work => return Ok(()),
            ended = self.end(), if !self.is_over => ended?,
        }
        work.await;
        Ok(())
    }
}

/// Reads until the client ends its half. What no step wants is counted only.
async fn read<M: Message>(
    watched: Watched,
    delay: Duration,
    mut requests: Streaming<M>,
    mut wanted: u64,
    kept: mpsc::UnboundedSender<Kept>,
) -> Result<(), Status> {
    let room = Arc::new(Semaphore::new(KEPT as usize));
    if !delay.is_zero() {
        let _silent = watched.suspend_idle_timeout();
        sleep_until(watched.call.begun + delay).await;
    }
    while let Some(message) = requests.message().await? {
        let (script, payload) = message.parts();
        watched.call.received(payload.len());
        if script.is_some() {
            return Err(bad_request("script", "script belongs in the first request".to_owned()));
        }
        if wanted > 0 {
            wanted -= 1;
            let cost = u32::try_from(payload.len()).unwrap_or(KEPT).clamp(LEAST, KEPT);
            // Never closed.
            let Ok(place) = room.clone().acquire_many_owned(cost).await else { break };
            // Nobody wants it any more when the steps are over.
            let _ = kept.send(Kept { payload, _place: place });
        }
    }
    match watched.call.is_cancelled() {
        true => Err(Status::cancelled("the client has gone")),
        false => Ok(()),
    }
}

//! Batches between the input and the server.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    time::Duration,
};

use indicatif::ProgressBar;
use shared_proto::fourmodes::v1::{
    RecordReadingsRequest, RecordReadingsResponse,
    client_streaming_service_client::ClientStreamingServiceClient,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use transport::Mode;
use uuid::Uuid;

use super::{
    answer::{Answer, LISTED_REFUSALS, Refusals},
    input::{self, Batch, Input, Portion},
};
use crate::{failure::Failure, session::Session};

/// How many portions may be read, and batches sent, ahead of what the network
/// takes.
const AHEAD: usize = 4;
/// After so many rows a call ends. They are kept until it is answered, in a few
/// megabytes; each call costs a round trip and the server's disk.
const CALL_ROWS: usize = 32_768;
/// After this long a call ends too, so that what comes slowly is safe soon.
const CALL_TIME: Duration = Duration::from_secs(2);

pub(super) struct Delivery {
    input: mpsc::Receiver<Result<Input, Failure>>,
    producer: Option<String>,
    /// Read, and not sent yet.
    ready: VecDeque<Batch>,
    /// Sent in the current call, or in one that broke off. What has been sent
    /// without an answer may have arrived or not: all of it goes again.
    unanswered: Vec<Batch>,
    /// Of rows that are no readings, since the last answer.
    pub(super) refused: Refusals,
}

impl Delivery {
    pub(super) fn of(file: &Path, producer: Option<String>, progress: &ProgressBar) -> Self {
        let input = read_ahead(file, progress.clone());
        Self { input, producer, ready: VecDeque::new(), unanswered: Vec::new(), refused: Refusals::default() }
    }

    /// Whether there is a batch to send, once that is known. Cancelling loses
    /// nothing.
    pub(super) async fn has_more(&mut self) -> Result<bool, Failure> {
        while self.ready.is_empty() {
            match self.input.recv().await.transpose()? {
                Some(Input::Producer(named)) => {
                    let name = || named.unwrap_or_else(|| Uuid::new_v4().to_string());
                    self.producer = Some(self.producer.take().unwrap_or_else(name));
                }
                Some(Input::Portion(Portion { batches, refused })) => {
                    self.ready.extend(batches);
                    self.refused.count += refused.len() as u64;
                    let room = LISTED_REFUSALS.saturating_sub(self.refused.listed.len());
                    self.refused.listed.extend(refused.into_iter().take(room));
                }
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// One call: first what the last one left unanswered, then what is new.
    pub(super) async fn call(&mut self, session: &Session) -> Result<RecordReadingsResponse, Failure> {
        let (requests, receiver) = mpsc::channel(AHEAD);
        let mut client = ClientStreamingServiceClient::new(session.channel());
        let mut request = session.request(ReceiverStream::new(receiver), None);
        request.extensions_mut().insert(Mode::ClientStreaming);
        let response = client.record_readings(request);
        tokio::select! {
            biased;
            response = response => Ok(response?.into_inner()),
            // Dropping the call cancels it; what has arrived until then counts.
            Err(failure) = self.send(requests) => Err(failure),
        }
    }

    /// Ends well when the call has enough, or when it takes no more: what has
    /// become of it is for its response to say.
    async fn send(&mut self, requests: mpsc::Sender<RecordReadingsRequest>) -> Result<(), Failure> {
        for batch in &self.unanswered {
            if requests.send(self.request(batch)).await.is_err() {
                return Ok(());
            }
        }
        let mut rows: usize = self.unanswered.iter().map(|batch| batch.readings.len()).sum();
        let end = Instant::now() + CALL_TIME;
        while rows < CALL_ROWS {
            let Ok(more) = timeout_at(end, self.has_more()).await else { return Ok(()) };
            more?;
            let Some(batch) = self.ready.pop_front() else { return Ok(()) };
            rows += batch.readings.len();
            let request = self.request(&batch);
            // Before it goes: from now on it may have arrived.
            self.unanswered.push(batch);
            if requests.send(request).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn request(&self, batch: &Batch) -> RecordReadingsRequest {
        let Batch { device, sequence, readings } = batch.clone();
        RecordReadingsRequest {
            producer_id: self.producer.clone().unwrap_or_default(),
            device,
            sequence,
            readings,
        }
    }

    /// Lets go of what the server has answered for, if it has answered for it.
    pub(super) fn acknowledge(
        &mut self,
        response: RecordReadingsResponse,
        answer: &mut Answer,
    ) -> Result<(), Failure> {
        let accepted =
            response.devices.iter().map(|device| (device.device.as_str(), device.accepted_through));
        let accepted: HashMap<_, _> = accepted.collect();
        for Batch { device, sequence, .. } in &self.unanswered {
            // A device that is not named was refused as a whole.
            if accepted.get(device.as_str()).is_some_and(|through| through < sequence) {
                let message = format!("the answer leaves out batch {sequence} of device {device:?}");
                return Err(Failure::answer(message));
            }
        }
        self.unanswered.clear();
        answer.producer_id.clone_from(self.producer.get_or_insert_default());
        answer.add(response);
        answer.refuse(&mut self.refused);
        Ok(())
    }
}

/// Reads in a thread of its own: a terminal or a pipe may block for ever, and
/// nothing waits for a plain thread at the end.
fn read_ahead(file: &Path, progress: ProgressBar) -> mpsc::Receiver<Result<Input, Failure>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let file = file.to_owned();
    std::thread::spawn(move || {
        let read = input::read(&file, &progress, |input| sender.blocking_send(Ok(input)).is_ok());
        if let Err(failure) = read {
            // Without a receiver the run is over, and so is the interest.
            let _ = sender.blocking_send(Err(failure));
        }
    });
    receiver
}

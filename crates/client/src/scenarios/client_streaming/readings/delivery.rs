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

/// How many portions may be read, and how many batches sent, ahead of the network.
const AHEAD: usize = 4;
/// How many rows end a call. They are kept until the call is answered, which takes a
/// few megabytes. Each call costs a round trip and a write to the server's disk.
const CALL_ROWS: usize = 32_768;
/// How long a call lasts at most, so that readings that arrive slowly become durable
/// soon.
const CALL_TIME: Duration = Duration::from_secs(2);

pub(super) struct Delivery {
    input: mpsc::Receiver<Result<Input, Failure>>,
    producer: Option<String>,
    /// Batches that were read and not sent yet.
    ready: VecDeque<Batch>,
    /// Batches sent in the current call, or in one that broke off. Without an answer
    /// they may or may not have arrived, so all of them are sent again.
    unanswered: Vec<Batch>,
    /// Rows that are not readings, since the last answer.
    pub(super) refused: Refusals,
}

impl Delivery {
    pub(super) fn of(file: &Path, producer: Option<String>, progress: &ProgressBar) -> Self {
        let input = read_ahead(file, progress.clone());
        Self { input, producer, ready: VecDeque::new(), unanswered: Vec::new(), refused: Refusals::default() }
    }

    /// Waits until it is known whether there is a batch to send. Cancel safe.
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

    /// Makes one call. It first sends the batches that the previous call left
    /// unanswered, and then the new ones.
    pub(super) async fn call(&mut self, session: &Session) -> Result<RecordReadingsResponse, Failure> {
        let (requests, receiver) = mpsc::channel(AHEAD);
        let mut client = ClientStreamingServiceClient::new(session.channel());
        let mut request = session.request(ReceiverStream::new(receiver), None);
        request.extensions_mut().insert(Mode::ClientStreaming);
        let response = client.record_readings(request);
        tokio::select! {
            biased;
            response = response => Ok(response?.into_inner()),
            // Dropping the call cancels it. The server keeps what has arrived by then.
            Err(failure) = self.send(requests) => Err(failure),
        }
    }

    /// Returns `Ok` when the call has enough rows, and also when it accepts no more:
    /// its response then says why.
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
            // Before it is sent: from then on it may have arrived.
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

    /// Drops the batches that the server has answered for. Fails if the answer leaves
    /// one out.
    pub(super) fn acknowledge(
        &mut self,
        response: RecordReadingsResponse,
        answer: &mut Answer,
    ) -> Result<(), Failure> {
        let accepted =
            response.devices.iter().map(|device| (device.device.as_str(), device.accepted_through));
        let accepted: HashMap<_, _> = accepted.collect();
        for Batch { device, sequence, .. } in &self.unanswered {
            // A device that the answer does not name was refused as a whole.
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

/// Reads in a thread of its own, because a terminal or a pipe may block for ever. The
/// process does not wait for a plain thread when it exits.
fn read_ahead(file: &Path, progress: ProgressBar) -> mpsc::Receiver<Result<Input, Failure>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let file = file.to_owned();
    std::thread::spawn(move || {
        let read = input::read(&file, &progress, |input| sender.blocking_send(Ok(input)).is_ok());
        if let Err(failure) = read {
            // Without a receiver the run is over, and the error does not matter.
            let _ = sender.blocking_send(Err(failure));
        }
    });
    receiver
}

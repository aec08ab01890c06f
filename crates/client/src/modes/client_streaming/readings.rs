//! Delivers readings, in calls that end now and then: only the answer says what
//! is safe, so what is delivered without one has to be kept.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    path::Path,
    time::Duration,
};

use console::{Alignment, pad_str};
use indicatif::HumanCount;
use serde::Serialize;
use shared_proto::fourmodes::v1::{
    DeviceStatistics, RecordReadingsRequest, RecordReadingsResponse,
    client_streaming_service_client::ClientStreamingServiceClient,
};
use timeline::words::{counted, printable};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use crate::{
    failure::Failure,
    readings::{self, Batch, Input, Portion, Refused},
    session::Session,
};

/// How many portions may be read, and batches sent, ahead of what the network
/// takes.
const AHEAD: usize = 4;
/// After so many rows a call ends. They are kept until it is answered, in a few
/// megabytes; each call costs a round trip and the server's disk.
const CALL_ROWS: usize = 32_768;
/// After this long a call ends too, so that what comes slowly is safe soon.
const CALL_TIME: Duration = Duration::from_secs(2);
/// How many refused rows are listed with their reason.
const LISTED_REFUSALS: usize = 100;

/// Empty until the server has answered, or had nothing to answer.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Readings {
    #[serde(flatten)]
    answer: Option<Answer>,
}

/// Of all calls together.
#[derive(Debug, Default, Serialize)]
pub(super) struct Answer {
    producer_id: String,
    pub(super) count: u64,
    /// Delivered, and known to the server from an earlier run or from a call
    /// whose answer was lost.
    pub(super) repeated_count: u64,
    pub(super) refused_count: u64,
    /// The first ones by line, whoever refused them: rows that are no reading
    /// are refused here, readings that make no sense by the server.
    refused: Vec<Refused>,
    #[serde(serialize_with = "values")]
    pub(super) devices: BTreeMap<String, Device>,
}

/// Everything that the server has of it, also from others.
#[derive(Debug, Serialize)]
pub(super) struct Device {
    device: String,
    accepted_through: u64,
    #[serde(flatten)]
    statistics: Option<Statistics>,
}

#[derive(Debug, Serialize)]
struct Statistics {
    count: u64,
    first_time: String,
    last_time: String,
    min: f64,
    max: f64,
    mean: f64,
    standard_deviation: f64,
    p50: f64,
    p95: f64,
    p99: f64,
}

/// Delivers all of `file`. A lost connection costs nothing but time: what was
/// not answered is delivered again, and the server knows what it has by the
/// numbers. So does the next run with the same file.
pub(crate) async fn readings(
    session: &Session,
    file: &Path,
    producer: Option<&str>,
    report: &mut Readings,
) -> Result<(), Failure> {
    let mut delivery = Delivery::new(read_ahead(session, file), producer.map(str::to_owned));
    // Before a call: a file that cannot be used is no reason to make one.
    while delivery.has_more().await? {
        let response = session.repeating(async || delivery.call(session).await).await?;
        session.progressed();
        delivery.acknowledge(response, report.answer.get_or_insert_default())?;
    }
    let answer = report.answer.get_or_insert_default();
    answer.refuse(&mut delivery.refused);
    match answer.refused.first() {
        Some(first) if answer.count + answer.repeated_count == 0 => {
            Err(Failure::input(file, format!("no row counts; line {}: {}", first.line, first.reason)))
        }
        _ => Ok(()),
    }
}

/// Reads in a thread of its own: a terminal or a pipe may block for ever, and
/// nothing waits for a plain thread at the end.
fn read_ahead(session: &Session, file: &Path) -> mpsc::Receiver<Result<Input, Failure>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let progress = session.progress().clone();
    let file = file.to_owned();
    std::thread::spawn(move || {
        let read = readings::read(&file, &progress, |input| sender.blocking_send(Ok(input)).is_ok());
        if let Err(failure) = read {
            // Without a receiver the run is over, and so is the interest.
            let _ = sender.blocking_send(Err(failure));
        }
    });
    receiver
}

/// Batches between the input and the server.
struct Delivery {
    input: mpsc::Receiver<Result<Input, Failure>>,
    producer: Option<String>,
    /// Read, and not sent yet.
    ready: VecDeque<Batch>,
    /// Sent in the current call, or in one that broke off. What has been sent
    /// without an answer may have arrived or not: all of it goes again.
    unanswered: Vec<Batch>,
    /// Of rows that are no readings, since the last answer.
    refused: Refusals,
}

#[derive(Default)]
struct Refusals {
    count: u64,
    /// The first ones.
    listed: Vec<Refused>,
}

impl Delivery {
    fn new(input: mpsc::Receiver<Result<Input, Failure>>, producer: Option<String>) -> Self {
        Self { input, producer, ready: VecDeque::new(), unanswered: Vec::new(), refused: Refusals::default() }
    }

    /// Whether there is a batch to send, once that is known. Cancelling loses
    /// nothing.
    async fn has_more(&mut self) -> Result<bool, Failure> {
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
    async fn call(&mut self, session: &Session) -> Result<RecordReadingsResponse, Failure> {
        let (requests, receiver) = mpsc::channel(AHEAD);
        let mut client = ClientStreamingServiceClient::new(session.channel());
        let response = client.record_readings(session.request(ReceiverStream::new(receiver)));
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
    fn acknowledge(&mut self, response: RecordReadingsResponse, answer: &mut Answer) -> Result<(), Failure> {
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

impl Answer {
    pub(super) fn add(&mut self, response: RecordReadingsResponse) {
        self.count += response.count;
        self.repeated_count += response.repeated_count;
        let refused = response.refused.into_iter();
        let listed = refused.map(|refused| Refused { line: refused.line, reason: refused.reason }).collect();
        self.refuse(&mut Refusals { count: response.refused_count, listed });
        let devices = response.devices.into_iter();
        self.devices.extend(devices.map(|device| (device.device.clone(), device.into())));
    }

    fn refuse(&mut self, refusals: &mut Refusals) {
        let Refusals { count, listed } = std::mem::take(refusals);
        self.refused_count = self.refused_count.saturating_add(count);
        self.refused.extend(listed);
        self.refused.sort_by_key(|refused| refused.line);
        self.refused.truncate(LISTED_REFUSALS);
    }
}

fn values<S: serde::Serializer>(devices: &BTreeMap<String, Device>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(devices.values())
}

impl From<DeviceStatistics> for Device {
    fn from(statistics: DeviceStatistics) -> Self {
        let time =
            |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
        let DeviceStatistics { device, accepted_through, .. } = statistics;
        let statistics = (statistics.count > 0).then(|| Statistics {
            count: statistics.count,
            first_time: time(statistics.first_time),
            last_time: time(statistics.last_time),
            min: statistics.min,
            max: statistics.max,
            mean: statistics.mean,
            standard_deviation: statistics.standard_deviation,
            p50: statistics.p50,
            p95: statistics.p95,
            p99: statistics.p99,
        });
        Self { device, accepted_through, statistics }
    }
}

impl fmt::Display for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.answer.as_ref().map_or(Ok(()), |answer| answer.fmt(f))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How many lines of each kind people want to read.
        const LINES: usize = 20;
        let devices = self.devices.len() as u64;
        let measured = || self.devices.values().filter_map(|d| Some((&d.device, d.statistics.as_ref()?)));
        write!(f, "{} of {}, ", counted(self.count, "reading"), counted(devices, "device"))?;
        if self.repeated_count > 0 {
            write!(f, "{} known before, ", HumanCount(self.repeated_count))?;
        }
        write!(f, "{} refused", HumanCount(self.refused_count))?;
        for Refused { line, reason } in self.refused.iter().take(LINES) {
            write!(f, "\n    line {line}: {}", printable(reason))?;
        }
        if self.refused_count > LINES as u64 {
            write!(f, "\n    … and {} more", self.refused_count - LINES as u64)?;
        }
        if measured().next().is_none() {
            return Ok(());
        }
        let head = ["min", "p50", "p95", "p99", "max", "mean", "std dev"];
        // Ten, seven and seven times nine columns: as wide as a narrow terminal.
        write!(f, "\n{:<10}{:>7}", "device", "count")?;
        head.iter().try_for_each(|title| write!(f, "{title:>9}"))?;
        for (device, d) in measured().take(LINES) {
            write!(f, "\n{}{:>7}", pad_str(&printable(device), 10, Alignment::Left, Some("…")), d.count)?;
            let figures = [d.min, d.p50, d.p95, d.p99, d.max, d.mean, d.standard_deviation];
            figures.iter().try_for_each(|figure| write!(f, "{:>9}", rounded(*figure)))?;
        }
        match measured().count().saturating_sub(LINES) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more devices, all of them with --output json"),
        }
    }
}

/// For a column of nine characters.
fn rounded(figure: f64) -> String {
    match figure.abs() {
        0.0 | 1e-3..1e3 => format!("{figure:.3}"),
        1e3..1e5 => format!("{figure:.1}"),
        _ => format!("{figure:.1e}"),
    }
}

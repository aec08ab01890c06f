//! Client streaming: many requests, one response.

pub(crate) mod upload;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use console::{Alignment, pad_str};
use indicatif::HumanCount;
use serde::Serialize;
use shared_proto::fourmodes::v1::{
    DeviceStatistics, Reading, RecordReadingsRequest, RecordReadingsResponse,
    client_streaming_service_client::ClientStreamingServiceClient,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;

use crate::modes::tour::Step;
use crate::{
    failure::Failure,
    readings::{self, Batch, Refused},
    session::Session,
    words::{counted, printable},
};

/// How many batches may be read ahead of what the network takes.
const AHEAD: usize = 4;
/// How many refused rows are listed with their reason.
const LISTED_REFUSALS: usize = 100;

/// Empty until the server has answered.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Readings {
    #[serde(flatten)]
    answer: Option<Answer>,
}

#[derive(Debug, Serialize)]
struct Answer {
    count: u64,
    refused_count: u64,
    /// The first ones by line, whoever refused them: rows that are no reading
    /// are refused here, readings that make no sense by the server.
    refused: Vec<Refused>,
    devices: Vec<Device>,
}

#[derive(Debug, Serialize)]
struct Device {
    device: String,
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

pub(crate) async fn readings(session: &Session, file: &Path, report: &mut Readings) -> Result<(), Failure> {
    let mut batches = read_ahead(session, file);
    // Before the call: a file that cannot be used is no reason to make one.
    let Some(first) = batches.recv().await.transpose()? else { return Ok(()) };
    let (failed, failure) = oneshot::channel();
    let refused = Arc::new(Mutex::new(Refusals::default()));
    let requests = requests(first, batches, refused.clone(), failed);

    let mut client = ClientStreamingServiceClient::new(session.channel());
    let response = tokio::select! {
        biased;
        // The stream of requests does not end then: its end would tell the
        // server that this was all. Dropping the call cancels it.
        Ok(failure) = failure => return Err(failure),
        response = client.record_readings(session.request(requests)) => response?.into_inner(),
    };
    let answer = report.answer.insert(Answer::new(response, std::mem::take(&mut *lock(&refused))));
    match answer.refused.first() {
        Some(first) if answer.count == 0 => {
            Err(Failure::input(file, format!("no row counts; line {}: {}", first.line, first.reason)))
        }
        _ => Ok(()),
    }
}

/// Reads in a thread of its own: a terminal or a pipe may block for ever, and
/// nothing waits for a plain thread at the end.
fn read_ahead(session: &Session, file: &Path) -> mpsc::Receiver<Result<Batch, Failure>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let progress = session.progress().clone();
    let file = file.to_owned();
    std::thread::spawn(move || {
        let read = readings::read(&file, &progress, |batch| sender.blocking_send(Ok(batch)).is_ok());
        if let Err(failure) = read {
            // Without a receiver the call is over, and so is the interest.
            let _ = sender.blocking_send(Err(failure));
        }
    });
    receiver
}

fn requests(
    first: Batch,
    mut batches: mpsc::Receiver<Result<Batch, Failure>>,
    refused: Arc<Mutex<Refusals>>,
    failed: oneshot::Sender<Failure>,
) -> impl Stream<Item = RecordReadingsRequest> {
    async_stream::stream! {
        let mut next = Some(Ok(first));
        while let Some(batch) = next {
            match batch {
                Ok(Batch { readings, refused: here }) => {
                    lock(&refused).add(here);
                    if !readings.is_empty() {
                        yield RecordReadingsRequest { readings };
                    }
                }
                Err(failure) => {
                    let _ = failed.send(failure);
                    std::future::pending::<()>().await;
                    return;
                }
            }
            next = batches.recv().await;
        }
    }
}

/// Rows that are no readings.
#[derive(Debug, Default)]
struct Refusals {
    count: u64,
    /// The first ones.
    listed: Vec<Refused>,
}

impl Refusals {
    fn add(&mut self, refused: Vec<Refused>) {
        self.count += refused.len() as u64;
        let room = LISTED_REFUSALS.saturating_sub(self.listed.len());
        self.listed.extend(refused.into_iter().take(room));
    }
}

fn lock(refusals: &Mutex<Refusals>) -> MutexGuard<'_, Refusals> {
    refusals.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answer {
    fn new(response: RecordReadingsResponse, here: Refusals) -> Self {
        let there = response
            .refused
            .into_iter()
            .map(|refused| Refused { line: refused.line, reason: refused.reason });
        let mut refused: Vec<_> = there.chain(here.listed).collect();
        refused.sort_by_key(|refused| refused.line);
        refused.truncate(LISTED_REFUSALS);
        Self {
            count: response.count,
            refused_count: response.refused_count.saturating_add(here.count),
            refused,
            devices: response.devices.into_iter().map(Device::from).collect(),
        }
    }
}

impl From<DeviceStatistics> for Device {
    fn from(statistics: DeviceStatistics) -> Self {
        let time =
            |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
        Self {
            device: statistics.device,
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
        }
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
        write!(f, "{} of {}, ", counted(self.count, "reading"), counted(devices, "device"))?;
        write!(f, "{} refused", HumanCount(self.refused_count))?;
        for Refused { line, reason } in self.refused.iter().take(LINES) {
            write!(f, "\n    line {line}: {}", printable(reason))?;
        }
        if self.refused_count > LINES as u64 {
            write!(f, "\n    … and {} more", self.refused_count - LINES as u64)?;
        }
        if self.devices.is_empty() {
            return Ok(());
        }
        let head = ["min", "p50", "p95", "p99", "max", "mean", "std dev"];
        // Ten, seven and seven times nine columns: as wide as a narrow terminal.
        write!(f, "\n{:<10}{:>7}", "device", "count")?;
        head.iter().try_for_each(|title| write!(f, "{title:>9}"))?;
        for d in self.devices.iter().take(LINES) {
            write!(f, "\n{}{:>7}", pad_str(&printable(&d.device), 10, Alignment::Left, Some("…")), d.count)?;
            let figures = [d.min, d.p50, d.p95, d.p99, d.max, d.mean, d.standard_deviation];
            figures.iter().try_for_each(|figure| write!(f, "{:>9}", rounded(*figure)))?;
        }
        match self.devices.len().saturating_sub(LINES) {
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

pub(crate) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "CLIENT STREAMING: many requests, one response. The client sends at its own pace and says with \
         its half-close that this was all; only then does the server answer, once.",
    );
    let values =
        [("kitchen", 21.5), ("cellar", 12.0), ("kitchen", 21.9), ("cellar", 12.4), ("kitchen", f64::NAN)];
    let requests = values.into_iter().zip(1..).map(|((device, value), line)| RecordReadingsRequest {
        readings: vec![Reading {
            device: device.to_owned(),
            time: Some(std::time::SystemTime::now().into()),
            value,
            line,
        }],
    });
    let mut client = ClientStreamingServiceClient::new(session.channel());
    let requests = session.request(tokio_stream::iter(requests.collect::<Vec<_>>()));
    let response = client.record_readings(requests).await?.into_inner();
    let answer = Answer::new(response, Refusals::default());
    steps.push(Step::new(
        "readings",
        format!(
            "{} readings of {} devices, {} refused with its reason",
            answer.count,
            answer.devices.len(),
            answer.refused_count
        ),
    ));
    upload::demonstrate(session, steps).await
}

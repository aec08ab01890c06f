//! Server streaming: one request, many responses.

pub(crate) mod download;
mod log;
pub(crate) mod quotes;
mod task;

use std::{fmt, time::Duration};

use indicatif::HumanBytes;
use serde::Serialize;
use shared_proto::{
    fourmodes::v1::{
        WatchQuotesRequest, WatchSystemRequest, WatchSystemResponse,
        server_streaming_service_client::ServerStreamingServiceClient,
    },
    limits,
};
use timeline::words::counted;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use self::quotes::{Quotes, quotes};
pub(crate) use self::{log::log, task::task};
use crate::{
    config::{Delivery, Watch},
    failure::Failure,
    modes::tour::{Step, expect_code},
    session::Session,
};

#[derive(Debug, Default, Serialize)]
pub(crate) struct System {
    count: u64,
    /// The last sample, in the units of the proto.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest: Option<Sample>,
}

#[derive(Debug, Serialize)]
struct Sample {
    process_cpu_percent: f64,
    process_memory_bytes: u64,
    process_disk_read_bytes: u64,
    process_disk_written_bytes: u64,
    machine_cpu_percent: f64,
    machine_memory_used_bytes: u64,
    machine_memory_total_bytes: u64,
    machine_disk_available_bytes: u64,
    machine_disk_total_bytes: u64,
    machine_network_received_bytes: u64,
    machine_network_sent_bytes: u64,
}

pub(crate) async fn system(
    session: &Session,
    interval: Duration,
    count: u64,
    report: &mut System,
) -> Result<(), Failure> {
    session
        .resuming(async || {
            let rest = count.saturating_sub(report.count);
            // Only the end was lost; a count of 0 would be an endless stream.
            if count > 0 && rest == 0 {
                return Ok(());
            }
            let request = WatchSystemRequest { interval: wire(interval)?, count: rest };
            let mut client = ServerStreamingServiceClient::new(session.channel());
            let mut samples = client.watch_system(session.request(request)).await?.into_inner();
            while let Some(response) = samples.message().await? {
                session.progressed();
                report.count += 1;
                report.latest = Some(response.into());
            }
            Ok(())
        })
        .await
}

impl From<WatchSystemResponse> for Sample {
    fn from(response: WatchSystemResponse) -> Self {
        let process = response.process.unwrap_or_default();
        let machine = response.machine.unwrap_or_default();
        Self {
            process_cpu_percent: process.cpu_percent,
            process_memory_bytes: process.memory_bytes,
            process_disk_read_bytes: process.disk_read_bytes,
            process_disk_written_bytes: process.disk_written_bytes,
            machine_cpu_percent: machine.cpu_percent,
            machine_memory_used_bytes: machine.memory_used_bytes,
            machine_memory_total_bytes: machine.memory_total_bytes,
            machine_disk_available_bytes: machine.disk_available_bytes,
            machine_disk_total_bytes: machine.disk_total_bytes,
            machine_network_received_bytes: machine.network_received_bytes,
            machine_network_sent_bytes: machine.network_sent_bytes,
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(latest) = &self.latest else { return Ok(()) };
        let bytes = HumanBytes;
        writeln!(f, "{}; the last one:", counted(self.count, "sample"))?;
        writeln!(
            f,
            "    server   {:>5.1} % of a core, {} of memory, disk {} read, {} written",
            latest.process_cpu_percent,
            bytes(latest.process_memory_bytes),
            bytes(latest.process_disk_read_bytes),
            bytes(latest.process_disk_written_bytes),
        )?;
        write!(
            f,
            "    machine  {:>5.1} % of all cores, {} of {} memory\n             {} of {} disk free, network {} in, {} out",
            latest.machine_cpu_percent,
            bytes(latest.machine_memory_used_bytes),
            bytes(latest.machine_memory_total_bytes),
            bytes(latest.machine_disk_available_bytes),
            bytes(latest.machine_disk_total_bytes),
            bytes(latest.machine_network_received_bytes),
            bytes(latest.machine_network_sent_bytes),
        )
    }
}

/// The next response of a stream that has a heartbeat. A stream that stays
/// silent is as lost as its connection: something in between may keep that one
/// open for a server that is gone.
async fn next<T>(responses: &mut Streaming<T>) -> Result<Option<T>, Failure> {
    const SILENCE: Duration = limits::HEARTBEAT.saturating_mul(3);
    match timeout(SILENCE, responses.message()).await {
        Ok(response) => Ok(response?),
        Err(_) => Err(Failure::silent(SILENCE)),
    }
}

fn wire(interval: Duration) -> Result<Option<prost_types::Duration>, Failure> {
    let wire = prost_types::Duration::try_from(interval);
    wire.map(Some).map_err(|error| Failure::answer(format!("an interval that fits no message: {error}")))
}

pub(crate) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "SERVER STREAMING: one request, many responses. The client half-closes after its request and \
         then only listens; the server speaks when it has something to say, and its trailers end the call.",
    );
    let mut watch = Watch {
        symbols: Vec::new(),
        count: 5,
        interval: Duration::from_millis(100),
        from_sequence: None,
        delivery: Delivery::Every,
    };
    let mut report = Quotes::default();
    quotes(session, &watch, &mut report).await?;
    steps.push(Step::new("quotes", format!("{} quotes, {} gaps", report.count, report.gaps)));

    session.note(
        "The client may stop whenever it has seen enough, here after 1,000 quotes of an endless stream: it \
         cancels. What was on its way is thrown away, and the server lets go of all it held for the call.",
    );
    let mut client = ServerStreamingServiceClient::new(session.channel());
    let endless = WatchQuotesRequest { symbols: vec!["ACME".to_owned()], ..WatchQuotesRequest::default() };
    let mut quotes_of_one = client.watch_quotes(session.request(endless)).await?.into_inner();
    let mut seen = 0;
    while seen < 1000 && quotes_of_one.message().await?.is_some() {
        seen += 1;
    }
    drop(quotes_of_one);
    steps.push(Step::new("quotes", format!("an endless stream, cancelled after {seen} quotes")));

    session.note("What the server does not have, it refuses before the first message.");
    watch.symbols = vec!["NOPE".to_owned()];
    let unknown = quotes(session, &watch, &mut Quotes::default()).await;
    steps.push(expect_code("quotes", unknown, Code::InvalidArgument, "an unknown symbol")?);

    session.note("The load of the server's own machine: each sample is taken when it is sent.");
    let mut report = System::default();
    system(session, Duration::from_millis(500), 2, &mut report).await?;
    steps.push(Step::new("system", format!("{} samples of the server's load", report.count)));
    download::demonstrate(session, steps).await?;
    task::demonstrate(session, steps).await
}

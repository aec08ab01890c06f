//! Server streaming: one request, many responses.

pub(crate) mod download;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use shared_proto::fourmodes::v1::{
    Quote, WatchQuotesRequest, WatchSystemRequest, WatchSystemResponse,
    server_streaming_service_client::ServerStreamingServiceClient,
};
use tonic::Code;

use crate::modes::tour::{Step, expect_code};
use crate::{
    failure::Failure,
    session::Session,
    words::{counted, printable},
};

#[derive(Debug, Default, Serialize)]
pub(crate) struct Quotes {
    count: u64,
    /// Sequences that were left out.
    gaps: u64,
    /// Sequences that came again or too late.
    duplicates: u64,
    last_sequence: u64,
    seconds: f64,
    symbols: BTreeMap<String, SymbolQuotes>,
}

#[derive(Debug, Default, Serialize)]
struct SymbolQuotes {
    count: u64,
    price_cents: i64,
}

pub(crate) async fn quotes(
    session: &Session,
    symbols: &[String],
    count: u64,
    interval: Duration,
    report: &mut Quotes,
) -> Result<(), Failure> {
    if interval.is_zero() {
        session.note("An interval of 0: the server sends as fast as flow control allows.");
    }
    let request = WatchQuotesRequest { symbols: symbols.to_vec(), count, interval: wire(interval)? };
    let mut client = ServerStreamingServiceClient::new(session.channel());
    let begun = Instant::now();
    let mut quotes = client.watch_quotes(session.request(request)).await?.into_inner();
    while let Some(response) = quotes.message().await? {
        let quote = response.quote.ok_or_else(|| Failure::answer("a response without a quote"))?;
        report.add(quote);
        report.seconds = begun.elapsed().as_secs_f64();
    }
    match count {
        0 => Ok(()),
        count if count == report.count => Ok(()),
        count => Err(Failure::answer(format!("asked for {count} quotes, got {}", report.count))),
    }
}

impl Quotes {
    fn add(&mut self, quote: Quote) {
        self.count += 1;
        match quote.sequence.checked_sub(self.last_sequence.saturating_add(1)) {
            Some(skipped) => {
                self.gaps = self.gaps.saturating_add(skipped);
                self.last_sequence = quote.sequence;
            }
            None => self.duplicates += 1,
        }
        match self.symbols.get_mut(&quote.symbol) {
            Some(symbol) => {
                symbol.count += 1;
                symbol.price_cents = quote.price_cents;
            }
            None => {
                let first = SymbolQuotes { count: 1, price_cents: quote.price_cents };
                self.symbols.insert(quote.symbol, first);
            }
        }
    }
}

impl fmt::Display for Quotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return Ok(());
        }
        write!(f, "{} in {:.1} s", counted(self.count, "quote"), self.seconds)?;
        if self.count > 1 && self.seconds > 0.0 {
            let rate = self.count as f64 / self.seconds;
            write!(f, " ({}/s)", HumanCount(rate as u64))?;
        }
        write!(f, ", {}, {}", counted(self.gaps, "gap"), counted(self.duplicates, "duplicate"))?;
        for (symbol, quotes) in &self.symbols {
            let (units, cents) = (quotes.price_cents / 100, quotes.price_cents % 100);
            write!(
                f,
                "\n    {:<8}{units:>8}.{cents:02}{:>20}",
                printable(symbol),
                counted(quotes.count, "quote")
            )?;
        }
        Ok(())
    }
}

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
    let request = WatchSystemRequest { interval: wire(interval)?, count };
    let mut client = ServerStreamingServiceClient::new(session.channel());
    let mut samples = client.watch_system(session.request(request)).await?.into_inner();
    while let Some(response) = samples.message().await? {
        report.count += 1;
        report.latest = Some(response.into());
    }
    Ok(())
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

fn wire(interval: Duration) -> Result<Option<prost_types::Duration>, Failure> {
    let wire = prost_types::Duration::try_from(interval);
    wire.map(Some).map_err(|error| Failure::answer(format!("an interval that fits no message: {error}")))
}

pub(crate) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "SERVER STREAMING: one request, many responses. The client half-closes after its request and \
         then only listens; the server speaks when it has something to say, and its trailers end the call.",
    );
    let mut report = Quotes::default();
    quotes(session, &[], 5, Duration::from_millis(100), &mut report).await?;
    steps.push(Step::new("quotes", format!("{} quotes, {} gaps", report.count, report.gaps)));

    session.note(
        "The client may stop whenever it has seen enough, here after 1,000 quotes of an endless stream: it \
         cancels. What was on its way is thrown away, and the server lets go of all it held for the call.",
    );
    let mut client = ServerStreamingServiceClient::new(session.channel());
    let endless = WatchQuotesRequest { symbols: vec!["ACME".to_owned()], count: 0, interval: None };
    let mut quotes_of_one = client.watch_quotes(session.request(endless)).await?.into_inner();
    let mut seen = 0;
    while seen < 1000 && quotes_of_one.message().await?.is_some() {
        seen += 1;
    }
    drop(quotes_of_one);
    steps.push(Step::new("quotes", format!("an endless stream, cancelled after {seen} quotes")));

    session.note("What the server does not have, it refuses before the first message.");
    let unknown = quotes(session, &["NOPE".to_owned()], 1, Duration::from_millis(100), &mut report).await;
    steps.push(expect_code("quotes", unknown, Code::InvalidArgument, "an unknown symbol")?);

    session.note("The load of the server's own machine: each sample is taken when it is sent.");
    let mut report = System::default();
    system(session, Duration::from_millis(500), 2, &mut report).await?;
    steps.push(Step::new("system", format!("{} samples of the server's load", report.count)));
    download::demonstrate(session, steps).await
}

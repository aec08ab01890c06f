//! A feed that goes on after the last quote when the connection was lost.

use std::{collections::BTreeMap, fmt, time::Instant};

use clap::{Args, ValueEnum};
use indicatif::HumanCount;
use prost_types::Timestamp;
use serde::{Serialize, Serializer};
use shared_proto::{
    fourmodes::v1::{
        self as pb, Quote, WatchQuotesRequest, server_streaming_service_client::ServerStreamingServiceClient,
        watch_quotes_response::Event,
    },
    limits::MONITORING_HEARTBEAT,
};
use timeline::words::{counted, printable};

use crate::{
    failure::Failure,
    scenario::Scenario,
    scenarios::options::{Count, Interval},
    session::Session,
    values::trimmed,
};

/// Watch simulated market quotes
#[derive(Debug, Args)]
#[command(mut_arg("count", |count| count.help("Number of quotes; 0 continues until Ctrl-C")))]
#[command(mut_arg("interval", |interval| interval.default_value("100ms").help(INTERVAL)))]
pub(crate) struct Quotes {
    /// Symbols, separated by commas [default: all: ACME, BOLT, CORA, DUNE, ECHO, FLUX]
    #[arg(long, value_delimiter = ',', value_name = "SYMBOLS", value_parser = trimmed)]
    pub(crate) symbols: Vec<String>,
    #[command(flatten)]
    pub(crate) count: Count,
    #[command(flatten)]
    pub(crate) interval: Interval,
    /// Number of the first quote [default: the next new quote]
    #[arg(long, value_name = "N")]
    pub(crate) from_sequence: Option<u64>,
    /// Delivery when the feed is faster than this client
    #[arg(long, default_value = "every", value_name = "WHICH")]
    pub(crate) delivery: Delivery,
}

const INTERVAL: &str = "Maximum time between two quotes; 0s sends as fast as flow control allows";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Delivery {
    /// Every quote, however late
    Every,
    /// Only the latest quote of each symbol
    Latest,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) count: u64,
    /// Quotes of a symbol that were left out.
    pub(crate) gaps: u64,
    /// Sequences that came again or too late.
    duplicates: u64,
    /// Quotes that later ones had replaced, with `--delivery latest`.
    skipped: u64,
    /// When the feed began.
    #[serde(serialize_with = "as_text")]
    epoch: Option<Timestamp>,
    last_sequence: u64,
    seconds: f64,
    symbols: BTreeMap<String, SymbolQuotes>,
}

fn as_text<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_string()).serialize(serializer)
}

#[derive(Debug, Default, Serialize)]
struct SymbolQuotes {
    count: u64,
    price_cents: i64,
    #[serde(skip)]
    last: u64,
}

impl Scenario for Quotes {
    type Report = Report;

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        session.goes_on_elsewhere();
        if self.interval.interval.is_zero() {
            session.note("An interval of 0: the server sends as fast as flow control allows.");
        }
        let begun = Instant::now();
        session
            .resuming(async || {
                // Only the end was lost.
                let Some(left) = self.count.left_after(report.count) else { return Ok(()) };
                let mut client = ServerStreamingServiceClient::new(session.channel());
                let request = session.request(self.request(left, report)?, Some(MONITORING_HEARTBEAT));
                let mut events = client.watch_quotes(request).await?.into_inner();
                while let Some(response) = events.message().await? {
                    match response.event {
                        Some(Event::Quote(quote)) => report.add(quote, self.delivery),
                        Some(Event::Heartbeat(_)) => {}
                        None => return Err(Failure::answer("a response without a quote")),
                    }
                    session.progressed();
                    report.seconds = begun.elapsed().as_secs_f64();
                }
                match self.count.count {
                    count if count == 0 || count == report.count => Ok(()),
                    count => Err(Failure::answer(format!("requested {count} quotes, got {}", report.count))),
                }
            })
            .await
    }
}

impl Quotes {
    /// What is left, after what is there.
    fn request(&self, left: u64, report: &Report) -> Result<WatchQuotesRequest, Failure> {
        let from_sequence = match report.last_sequence {
            0 => self.from_sequence,
            last => Some(last + 1),
        };
        Ok(WatchQuotesRequest {
            symbols: self.symbols.clone(),
            count: left,
            interval: self.interval.wire()?,
            from_sequence,
            epoch: report.epoch,
            delivery: match self.delivery {
                Delivery::Every => pb::Delivery::Unspecified,
                Delivery::Latest => pb::Delivery::Latest,
            }
            .into(),
        })
    }
}

impl Report {
    fn add(&mut self, quote: Quote, delivery: Delivery) {
        self.count += 1;
        self.epoch = quote.epoch;
        if quote.sequence <= self.last_sequence {
            self.duplicates += 1;
            return;
        }
        self.last_sequence = quote.sequence;
        let symbol = match self.symbols.get_mut(&quote.symbol) {
            Some(symbol) => symbol,
            // The first one may be any: what came before it was not asked for.
            None => {
                let before = quote.number.saturating_sub(1);
                let first = SymbolQuotes { last: before, ..SymbolQuotes::default() };
                self.symbols.entry(quote.symbol).or_insert(first)
            }
        };
        let left_out = quote.number.saturating_sub(symbol.last.saturating_add(1));
        match delivery {
            Delivery::Every => self.gaps = self.gaps.saturating_add(left_out),
            Delivery::Latest => self.skipped = self.skipped.saturating_add(left_out),
        }
        symbol.count += 1;
        symbol.price_cents = quote.price_cents;
        symbol.last = quote.number;
    }
}

impl fmt::Display for Report {
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
        if self.skipped > 0 {
            write!(f, ", {} skipped", HumanCount(self.skipped))?;
        }
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

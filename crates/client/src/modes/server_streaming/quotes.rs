//! A feed that goes on after the last quote when the connection was lost.

use std::{collections::BTreeMap, fmt, time::Instant};

use indicatif::HumanCount;
use prost_types::Timestamp;
use serde::{Serialize, Serializer};
use shared_proto::fourmodes::v1::{
    self as pb, Quote, WatchQuotesRequest, server_streaming_service_client::ServerStreamingServiceClient,
    watch_quotes_response::Event,
};
use timeline::words::{counted, printable};

use super::{next, wire};
use crate::{
    config::{Delivery, Watch},
    failure::Failure,
    session::Session,
};

#[derive(Debug, Default, Serialize)]
pub(crate) struct Quotes {
    pub(super) count: u64,
    /// Quotes of a symbol that were left out.
    pub(super) gaps: u64,
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

pub(crate) async fn quotes(session: &Session, watch: &Watch, report: &mut Quotes) -> Result<(), Failure> {
    if watch.interval.is_zero() {
        session.note("An interval of 0: the server sends as fast as flow control allows.");
    }
    let begun = Instant::now();
    session
        .resuming(async || {
            // Only the end was lost; a count of 0 would be an endless stream.
            if watch.count > 0 && report.count == watch.count {
                return Ok(());
            }
            let request = rest(watch, report)?;
            let mut client = ServerStreamingServiceClient::new(session.channel());
            let mut events = client.watch_quotes(session.request(request)).await?.into_inner();
            while let Some(response) = next(&mut events).await? {
                match response.event {
                    Some(Event::Quote(quote)) => report.add(quote, watch.delivery),
                    Some(Event::Heartbeat(_)) => {}
                    None => return Err(Failure::answer("a response without a quote")),
                }
                session.progressed();
                report.seconds = begun.elapsed().as_secs_f64();
            }
            match watch.count {
                count if count == 0 || count == report.count => Ok(()),
                count => Err(Failure::answer(format!("asked for {count} quotes, got {}", report.count))),
            }
        })
        .await
}

/// The rest of what is wanted, after what is there.
fn rest(watch: &Watch, report: &Quotes) -> Result<WatchQuotesRequest, Failure> {
    let from_sequence = match report.last_sequence {
        0 => watch.from_sequence,
        last => Some(last + 1),
    };
    Ok(WatchQuotesRequest {
        symbols: watch.symbols.clone(),
        count: watch.count.saturating_sub(report.count),
        interval: wire(watch.interval)?,
        from_sequence,
        epoch: report.epoch,
        delivery: match watch.delivery {
            Delivery::Every => pb::Delivery::Unspecified,
            Delivery::Latest => pb::Delivery::Latest,
        }
        .into(),
    })
}

impl Quotes {
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

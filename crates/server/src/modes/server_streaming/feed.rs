//! A feed that a client can resume.
//!
//! Copy: events are numbered and kept, and the request says where to begin, so that a
//! lost connection loses no event. A heartbeat distinguishes a quiet stream from a dead
//! one.
//! Leave: `latest_from`, if every reader wants every event, and `epoch`, if the numbers
//! never start again.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

use domain::{
    market::{MarketError, Quote, Watcher},
    quotes::{self, Chosen},
};
use shared_proto::fourmodes::v1::{self as pb, WatchQuotesResponse, watch_quotes_response::Event};
use tokio::time::timeout;
use tokio_stream::Stream;

use super::task::beat;
use crate::refused::Refused;

pub(super) struct Feed {
    watcher: Watcher,
    chosen: Chosen,
    latest: bool,
    heartbeat: Duration,
    /// Sent before anything else.
    ready: VecDeque<Quote>,
}

impl Feed {
    pub(super) fn new(watcher: Watcher, chosen: Chosen, latest: bool, heartbeat: Duration) -> Self {
        Self { watcher, chosen, latest, heartbeat, ready: VecDeque::new() }
    }

    /// Returns `count` quotes, or quotes without end if `count` is 0.
    pub(super) fn quotes(mut self, count: u64) -> impl Stream<Item = Result<WatchQuotesResponse, Refused>> {
        async_stream::try_stream! {
            let mut sent = 0;
            while count == 0 || sent < count {
                let event = match self.next().await? {
                    Some(quote) => {
                        sent += 1;
                        Event::Quote(wire(quote, self.watcher.epoch))
                    }
                    None => Event::Heartbeat(beat()),
                };
                yield WatchQuotesResponse { event: Some(event) };
            }
        }
    }

    /// Returns `None` when it is time for a heartbeat.
    async fn next(&mut self) -> Result<Option<Quote>, MarketError> {
        if let Some(quote) = self.ready.pop_front() {
            return Ok(Some(quote));
        }
        let quote = match self.chosen_at_hand() {
            Some(quote) => quote?,
            // A timer is started only if the next quote has to be waited for.
            None => match timeout(self.heartbeat, self.next_chosen()).await {
                Ok(quote) => quote?,
                Err(_) => return Ok(None),
            },
        };
        if !self.latest {
            return Ok(Some(quote));
        }
        self.ready = self.latest_from(quote).await?;
        Ok(self.ready.pop_front())
    }

    fn chosen_at_hand(&mut self) -> Option<Result<Quote, MarketError>> {
        loop {
            match self.watcher.at_hand()? {
                Ok(quote) if !self.chosen[quote.step.symbol] => {}
                quote => return Some(quote),
            }
        }
    }

    async fn next_chosen(&mut self) -> Result<Quote, MarketError> {
        loop {
            let quote = self.watcher.next().await?;
            if self.chosen[quote.step.symbol] {
                return Ok(quote);
            }
        }
    }

    /// The newest quote of each symbol, of `quote` and of all quotes made since.
    async fn latest_from(&mut self, quote: Quote) -> Result<VecDeque<Quote>, MarketError> {
        let mut latest = BTreeMap::from([(quote.step.symbol, quote)]);
        let last = self.watcher.last();
        while self.watcher.position() <= last {
            let quote = self.watcher.next().await?;
            latest.insert(quote.step.symbol, quote);
        }
        let mut latest: Vec<_> = latest.into_values().filter(|q| self.chosen[q.step.symbol]).collect();
        latest.sort_by_key(|quote| quote.sequence);
        Ok(latest.into())
    }
}

fn wire(quote: Quote, epoch: SystemTime) -> pb::Quote {
    pb::Quote {
        sequence: quote.sequence,
        symbol: quotes::symbol(quote.step.symbol).unwrap_or_default().to_owned(),
        price_cents: quote.step.price_cents,
        time: Some(quote.time.into()),
        epoch: Some(epoch.into()),
        number: quote.step.number,
    }
}

//! The feed of quotes: a stream of the store that a task fills for as long as
//! somebody watches. Every quote is in the store before anyone sees it. Where servers
//! share the store, quotes that one of them has made spare the others theirs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use super::{
    feed::{self, Cursor, Retention, Usage},
    lock,
    quotes::{Step, Walk},
    store::{self, Expect, Record, Store, StoreError, Write, Written},
};
use crate::platform;

const STATE: &str = "quotes/state";
/// What the names of their streams begin with.
const QUOTES: &str = "quotes/";
/// With a shorter interval quotes are made several at a time.
const SHORTEST: Duration = Duration::from_millis(1);
/// Quotes that are made in one commit when nobody wants to wait.
const BATCH: usize = 4096;
/// How far the market may be before its quickest watcher.
const AHEAD: u64 = 2 * BATCH as u64;
/// After so many quotes the market looks whether it keeps too many.
const QUOTES_PER_TRIM: u64 = 1 << 16;
/// Some three million quotes.
const KEPT_BYTES: u64 = 64 << 20;

/// A price that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// Counts all quotes of the epoch, from 1.
    pub sequence: u64,
    /// When it was made.
    pub time: SystemTime,
    /// Whose price it is, and which.
    pub step: Step,
}

#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarketError {
    #[error("this is another feed than the requested one: its numbers start again")]
    OtherEpoch { epoch: SystemTime },
    #[error("quote {from} does not exist yet: the next quote is {next}")]
    NotYet { from: u64, next: u64 },
    #[error("quote {from} is no longer kept: the first kept quote is {first}")]
    Gone { from: u64, first: u64 },
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for MarketError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Trimmed { from, first } => Self::Gone { from, first },
            error => Self::Store(error),
        }
    }
}

/// What is kept with the quotes, so that the feed goes on after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    seed: u64,
    /// When this feed began.
    epoch: SystemTime,
    walk: Walk,
}

/// The quotes of all symbols, made as long as somebody watches.
#[derive(Debug)]
pub struct Market {
    store: Arc<dyn Store>,
    seed: u64,
    retention: Retention,
    last: AtomicU64,
    /// The last quote by any server.
    elsewhere: Mutex<Option<watch::Receiver<u64>>>,
    watchers: Mutex<Watchers>,
    /// A watcher came or went.
    changed: Notify,
    /// A watcher that does not want to wait has not much left.
    hungry: Notify,
}

#[derive(Debug, Default)]
struct Watchers {
    /// The interval of each.
    intervals: BTreeMap<u64, Duration>,
    next: u64,
    /// Whether there is a task that makes quotes.
    open: bool,
}

/// Someone who watches. Dropping it lets the market go.
pub struct Watcher {
    market: Arc<Market>,
    number: u64,
    hungry: bool,
    /// When the numbers began with 1.
    pub epoch: SystemTime,
    cursor: Cursor,
}

impl Market {
    /// A market whose walk follows from `seed`, unless `store` has one that goes on.
    pub fn new(store: Arc<dyn Store>, seed: u64, retention: Retention) -> Self {
        let retention = Retention { bytes: retention.bytes.min(KEPT_BYTES), ..retention };
        Self {
            store,
            seed,
            retention,
            last: AtomicU64::new(0),
            elsewhere: Mutex::default(),
            watchers: Mutex::default(),
            changed: Notify::new(),
            hungry: Notify::new(),
        }
    }

    /// Watches from the quote `from` on, or from the next one. The shortest
    /// `interval` of all watchers sets the pace for all of them; 0 means as fast
    /// as it is read.
    pub async fn watch(
        self: &Arc<Self>,
        epoch: Option<SystemTime>,
        from: Option<u64>,
        interval: Duration,
    ) -> Result<Watcher, MarketError> {
        let state = self.state().await?;
        let stream = stream(state.epoch);
        let extent = self.store.extent(&stream).await?;
        if epoch.is_some_and(|epoch| epoch != state.epoch) {
            return Err(MarketError::OtherEpoch { epoch: state.epoch });
        }
        let next = extent.last + 1;
        let from = match from {
            Some(from) if from > next => return Err(MarketError::NotYet { from, next }),
            Some(from) if from < extent.first => {
                return Err(MarketError::Gone { from, first: extent.first });
            }
            from => from.unwrap_or(next),
        };
        self.last.fetch_max(extent.last, Relaxed);
        let mut watchers = lock(&self.watchers);
        watchers.next += 1;
        let number = watchers.next;
        watchers.intervals.insert(number, interval);
        if !std::mem::replace(&mut watchers.open, true) {
            tokio::spawn(self.clone().run());
        }
        self.changed.notify_one();
        let cursor = Cursor::new(self.store.clone(), stream, from);
        let hungry = interval.is_zero();
        Ok(Watcher { market: self.clone(), number, hungry, epoch: state.epoch, cursor })
    }

    /// What the store has, or a new feed where it has none of this seed.
    async fn state(&self) -> Result<State, StoreError> {
        loop {
            let stored = self.store.get(STATE).await?;
            let mut begin = Vec::new();
            let expect = match &stored {
                Some(stored) => {
                    let state: State = store::decode("the state of the quotes", stored)?;
                    if state.seed == self.seed {
                        return Ok(state);
                    }
                    begin.push(Write::Trim { stream: stream(state.epoch), before: u64::MAX });
                    Expect::Value(stored.clone())
                }
                None => Expect::Nothing,
            };
            let state = State { seed: self.seed, epoch: platform::now(), walk: Walk::new(self.seed) };
            begin.push(Write::Put { key: STATE.to_owned(), value: store::encode(&state), expect });
            match self.store.commit(begin).await {
                // Another watcher was faster.
                Err(StoreError::Conflict { .. }) => {}
                begun => return begun.map(|_| state),
            }
        }
    }

    /// Makes quotes until nobody watches any more.
    async fn run(self: Arc<Self>) {
        let mut made = None;
        while let Some(pace) = self.pace() {
            let due = async {
                match (pace, made) {
                    (Duration::ZERO, _) => self.hungry.notified().await,
                    (_, None) => {}
                    (pace, Some(made)) => sleep_until(made + pace.max(SHORTEST)).await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => continue,
                () = due => {}
            }
            made = Some(Instant::now());
            match self.make(batch(pace)).await {
                // Another server was quicker.
                Ok(()) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "no quotes could be made");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// What the quickest watcher wants. Closes the market without one.
    fn pace(&self) -> Option<Duration> {
        let mut watchers = lock(&self.watchers);
        let pace = watchers.intervals.values().min().copied();
        watchers.open = pace.is_some();
        pace
    }

    async fn make(&self, count: usize) -> Result<(), StoreError> {
        let Some(stored) = self.store.get(STATE).await? else { return Ok(()) };
        let mut state: State = store::decode("the state of the quotes", &stored)?;
        let time = platform::now();
        let stream = stream(state.epoch);
        let there = *lock(&self.elsewhere).get_or_insert_with(|| self.store.watch(&stream)).borrow();
        if self.last.fetch_max(there, Relaxed) < there {
            return Ok(());
        }
        let mut writes: Vec<_> =
            state.walk.by_ref().take(count).map(|step| append(&stream, time, step)).collect();
        // Together: after a restart the walk is where the quotes are.
        writes.push(Write::Put {
            key: STATE.to_owned(),
            value: store::encode(&state),
            expect: Expect::Value(stored),
        });
        let last = match self.store.commit(writes).await?.get(count - 1) {
            Some(Written::Appended(last) | Written::Known(last)) => *last,
            _ => return Ok(()),
        };
        self.last.fetch_max(last, Relaxed);
        if last % QUOTES_PER_TRIM < count as u64 {
            self.trim(&stream).await?;
        }
        Ok(())
    }

    /// Forgets quotes that are too old or too many, also while nobody watches.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        for (stream, _) in feed::streams(&*self.store, QUOTES).await? {
            self.trim(&stream).await?;
        }
        Ok(())
    }

    async fn trim(&self, stream: &str) -> Result<(), StoreError> {
        let time = |record: &[u8]| Ok(store::decode::<Stored>("a quote", record)?.time);
        self.retention.apply(&*self.store, stream, time).await
    }

    /// What all quotes take.
    pub async fn usage(&self) -> Result<Usage, StoreError> {
        let streams = feed::streams(&*self.store, QUOTES).await?;
        let extents = || streams.iter().map(|(_, extent)| extent);
        Ok(Usage {
            count: extents().map(|extent| extent.last + 1 - extent.first).sum(),
            bytes: extents().map(|extent| extent.bytes).sum(),
        })
    }
}

/// A quote as it is in the store, where its place is its sequence.
#[derive(Serialize, Deserialize)]
struct Stored {
    time: SystemTime,
    step: Step,
}

fn stream(epoch: SystemTime) -> String {
    format!("{QUOTES}{}", epoch.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos())
}

fn append(stream: &str, time: SystemTime, step: Step) -> Write {
    let record = store::encode(&Stored { time, step });
    Write::Append { stream: stream.to_owned(), record, id: None, expect: None }
}

fn batch(pace: Duration) -> usize {
    match pace.as_nanos() {
        0 => BATCH,
        pace => (SHORTEST.as_nanos() / pace).clamp(1, BATCH as u128) as usize,
    }
}

fn quote(record: &Record) -> Result<Quote, MarketError> {
    let Stored { time, step } = store::decode("a quote", &record.bytes)?;
    Ok(Quote { sequence: record.sequence, time, step })
}

impl Watcher {
    /// The next quote, if it is there without waiting.
    pub fn at_hand(&mut self) -> Option<Result<Quote, MarketError>> {
        if self.hungry && self.market.last.load(Relaxed) < self.cursor.position() + AHEAD {
            self.market.hungry.notify_one();
        }
        self.cursor.at_hand().as_ref().map(quote)
    }

    /// The next quote, once it is there. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Quote, MarketError> {
        if let Some(quote) = self.at_hand() {
            return quote;
        }
        quote(&self.cursor.next().await?)
    }

    /// The last sequence that there is by now.
    pub fn last(&self) -> u64 {
        self.market.last.load(Relaxed)
    }

    /// The next sequence to give.
    pub fn position(&self) -> u64 {
        self.cursor.position()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        lock(&self.market.watchers).intervals.remove(&self.number);
        self.market.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    fn market(store: &Arc<dyn Store>) -> Arc<Market> {
        Arc::new(Market::new(store.clone(), 7, Retention::default()))
    }

    async fn take(watcher: &mut Watcher, count: usize) -> Vec<Quote> {
        let mut quotes = Vec::new();
        for _ in 0..count {
            quotes.push(watcher.next().await.unwrap());
        }
        quotes
    }

    #[tokio::test]
    async fn a_feed_goes_on_after_a_restart_without_a_gap() {
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let mut watcher = market(&store).watch(None, None, Duration::ZERO).await.unwrap();
        let begun = take(&mut watcher, 10_000).await;
        let again = market(&store);
        let mut watcher = again.watch(Some(watcher.epoch), Some(10_001), Duration::ZERO).await.unwrap();
        let rest = take(&mut watcher, 10_000).await;
        let steps: Vec<_> = begun.iter().chain(&rest).map(|quote| quote.step).collect();
        assert_eq!(steps, Walk::new(7).take(20_000).collect::<Vec<_>>());
        let sequences: Vec<_> = begun.iter().chain(&rest).map(|quote| quote.sequence).collect();
        assert_eq!(sequences, (1..=20_000).collect::<Vec<_>>());
        // Who reads the history gets the same quotes, times too.
        let mut late = again.watch(None, Some(1), Duration::from_secs(3600)).await.unwrap();
        assert_eq!(take(&mut late, 10_000).await, begun);
    }

    #[tokio::test]
    async fn what_is_not_there_is_said() {
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let market = market(&store);
        let hour = Duration::from_secs(3600);
        let not_yet = market.watch(None, Some(2), hour).await.err().unwrap();
        assert_eq!(not_yet, MarketError::NotYet { from: 2, next: 1 });
        let mut watcher = market.watch(None, None, Duration::ZERO).await.unwrap();
        take(&mut watcher, 5_000).await;
        store.commit(vec![Write::Trim { stream: stream(watcher.epoch), before: 4_000 }]).await.unwrap();
        let gone = market.watch(Some(watcher.epoch), Some(3_999), hour).await.err().unwrap();
        assert_eq!(gone, MarketError::Gone { from: 3_999, first: 4_000 });
        let other = Arc::new(Market::new(store, 8, Retention::default()));
        let epoch = other.watch(None, None, hour).await.unwrap().epoch;
        assert!(epoch > watcher.epoch);
        let asked = other.watch(Some(watcher.epoch), Some(1), hour).await.err();
        assert_eq!(asked, Some(MarketError::OtherEpoch { epoch }));
        other.watch(Some(epoch), Some(1), hour).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_shortest_interval_sets_the_pace_and_nobody_closes_the_market() {
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let market = market(&store);
        let begun = Instant::now();
        let mut slow = market.watch(None, None, Duration::from_secs(10)).await.unwrap();
        take(&mut slow, 3).await;
        assert_eq!(begun.elapsed().as_secs(), 20);
        let quick = market.watch(None, None, Duration::from_secs(1)).await.unwrap();
        take(&mut slow, 5).await;
        assert_eq!(begun.elapsed().as_secs(), 25);
        let stream = stream(slow.epoch);
        drop((quick, slow));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!lock(&market.watchers).open);
        assert_eq!(store.extent(&stream).await.unwrap().last, 8);
    }
}

//! Takes each batch of readings once, and keeps totals.
//!
//! A producer numbers its batches for each device. The last accepted number, the
//! *mark*, and the device's totals change in one commit. So a batch that is delivered
//! again after a crash of either side is recognized by its number.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::{
    names::{self, BadName},
    readings::{Reading, Refusal, Statistics, Totals},
    store::{self, Expect, Store, StoreError, Write},
};
use crate::platform;

/// How many devices a call may have.
pub(crate) const CALL_DEVICES: usize = 10_000;
/// How many devices all open calls may have together, at about 300 bytes each.
const OPEN_DEVICES: usize = 200_000;
/// How many of them may have totals that are not in the store yet, at about 6 KiB each.
const PENDING: usize = if cfg!(test) { 64 } else { 8192 };
/// How many devices the store may have, at about 5 KiB each on the disk.
const DEVICES: u64 = 100_000;
/// How many marks the store may have, at about 150 bytes each.
const MARKS: u64 = 1_000_000;
/// How many refused readings are kept with a reason.
const LISTED_REFUSALS: usize = 100;
/// A producer is forgotten when it has sent no batch for this long.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many marks a sweep reads and removes at a time.
const SWEEP_AT_ONCE: usize = 1000;

const MARK_KEYS: &str = "readings/mark/";
const KEY_COUNTS_KEY: &str = "readings/stock";

#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum CollectError {
    #[error("producer_id {0}")]
    BadProducer(BadName),
    #[error("producer_id changed within the call; a call has one producer")]
    OtherProducer,
    #[error("sequence must be from 1")]
    BadSequence,
    #[error(
        "a batch of device {device:?} is missing: got {got}, expected {expected}; deliver from {expected} on"
    )]
    Gap { device: String, got: u64, expected: u64 },
    #[error("another call has delivered batches of producer {producer:?} in the meantime; deliver again")]
    Fenced { producer: String },
    #[error("open calls already have {OPEN_DEVICES} devices; try again later")]
    TooManyOpen,
    #[error("the server already has readings of {DEVICES} devices, which is the maximum")]
    TooManyDevices,
    #[error("the server already has {MARKS} pairs of producer and device; try again when some have expired")]
    TooManyMarks,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The readings of all devices.
#[derive(Debug)]
pub struct Collector {
    store: Arc<dyn Store>,
    /// Held while totals change. It spares the calls of this process conflicts with
    /// each other, and keeps a large call from starving among small ones. Correctness
    /// comes from the compare-and-set, not from this lock.
    turn: Mutex<()>,
    /// Permits for the devices of all calls.
    open: Arc<Semaphore>,
    /// Permits for totals that are not in the store yet.
    pending: Arc<Semaphore>,
}

/// The number of keys in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct KeyCounts {
    devices: u64,
    marks: u64,
}

/// How far a producer has got with a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Mark {
    accepted_through: u64,
    time: SystemTime,
}

/// The batches of one call.
///
/// Dropping this loses the batches since the last [`checkpoint`](Self::checkpoint).
#[derive(Debug)]
pub struct Collection {
    collector: Arc<Collector>,
    producer: String,
    devices: BTreeMap<String, Device>,
    tally: Tally,
}

/// The result of one call, by reading.
#[derive(Debug, Default)]
pub struct Tally {
    /// Readings that were added.
    pub count: u64,
    /// Readings of batches that had been accepted before.
    pub repeated_count: u64,
    /// Readings that make no sense.
    pub refused_count: u64,
    /// The first refused readings: the line that the client gave, and the reason.
    pub refused: Vec<(u64, Refusal)>,
}

/// The state of a device in a call.
#[derive(Debug)]
struct Device {
    /// The mark in the store.
    mark: Option<Mark>,
    /// Includes the batches that are not in the store yet.
    accepted_through: u64,
    /// The totals of these batches.
    added: Option<Pending>,
    _place: OwnedSemaphorePermit,
}

/// Totals that are not in the store yet.
#[derive(Debug)]
struct Pending {
    totals: Totals,
    _place: OwnedSemaphorePermit,
}

/// The change of one device for the store.
#[derive(Debug)]
struct Change {
    device: String,
    from: Option<Mark>,
    to: Mark,
    added: Option<Pending>,
}

/// The server's totals of a device.
#[derive(Debug, PartialEq)]
pub struct Collected {
    /// The name of the device.
    pub device: String,
    /// The number of the last batch that was accepted.
    pub accepted_through: u64,
    /// `None` when every reading was refused.
    pub statistics: Option<Statistics>,
}

impl Collector {
    /// A collector whose marks and totals are in `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let [open, pending] = [OPEN_DEVICES, PENDING].map(|places| Arc::new(Semaphore::new(places)));
        Self { store, turn: Mutex::default(), open, pending }
    }

    /// Begins a call, which has no batches yet.
    pub fn begin(self: &Arc<Self>) -> Collection {
        Collection {
            collector: self.clone(),
            producer: String::new(),
            devices: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Commits all changes, or none.
    async fn change(&self, producer: &str, changes: &[Change]) -> Result<(), CollectError> {
        let _turn = self.turn.lock().await;
        loop {
            let writes = self.writes(producer, changes).await?;
            match self.store.commit(writes).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { what }) if what.starts_with(MARK_KEYS) => {
                    return Err(CollectError::Fenced { producer: producer.to_owned() });
                }
                // Another server has changed totals. Each conflict means that the other
                // side made progress, so this loop ends.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn writes(&self, producer: &str, changes: &[Change]) -> Result<Vec<Write>, CollectError> {
        let (counts, expected_counts) = self.get::<KeyCounts>(KEY_COUNTS_KEY).await?;
        let had = counts.unwrap_or_default();
        let mut has = had;
        let mut writes = Vec::with_capacity(2 * changes.len() + 1);
        for Change { device, from, to, added } in changes {
            has.marks += u64::from(from.is_none());
            writes.push(Write::Put {
                key: mark_key(producer, device),
                value: store::encode(to),
                expect: from.map_or(Expect::Nothing, |mark| Expect::Value(store::encode(&mark))),
            });
            let Some(Pending { totals: added, .. }) = added else { continue };
            let key = totals_key(device);
            let (totals, expect) = self.get::<Totals>(&key).await?;
            has.devices += u64::from(totals.is_none());
            let totals = totals.map_or_else(|| added.clone(), |totals| totals.and(added));
            writes.push(Write::Put { key, value: store::encode(&totals), expect });
        }
        match has {
            KeyCounts { devices, .. } if devices > DEVICES.max(had.devices) => {
                return Err(CollectError::TooManyDevices);
            }
            KeyCounts { marks, .. } if marks > MARKS.max(had.marks) => {
                return Err(CollectError::TooManyMarks);
            }
            _ if has == had => {}
            _ => writes.push(put_key_counts(has, expected_counts)),
        }
        Ok(writes)
    }

    /// Forgets producers that have sent nothing for too long.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        self.sweep_at(platform::now()).await
    }

    /// The number of devices in the store.
    pub async fn devices(&self) -> Result<u64, StoreError> {
        let (counts, _) = self.get::<KeyCounts>(KEY_COUNTS_KEY).await?;
        Ok(counts.unwrap_or_default().devices)
    }

    async fn sweep_at(&self, now: SystemTime) -> Result<(), StoreError> {
        let mut after = String::new();
        loop {
            let marks = self.store.list(MARK_KEYS, &after, SWEEP_AT_ONCE).await?;
            let Some((last, _)) = marks.last() else { return Ok(()) };
            after.clone_from(last);
            let mut writes = Vec::new();
            for (key, value) in marks {
                let mark: Mark = store::decode(&key, &value)?;
                if now.duration_since(mark.time).is_ok_and(|age| age > REMEMBERED) {
                    writes.push(Write::Delete { key, expect: Expect::Value(value) });
                }
            }
            if writes.is_empty() {
                continue;
            }
            let (counts, expect) = self.get::<KeyCounts>(KEY_COUNTS_KEY).await?;
            let mut counts = counts.unwrap_or_default();
            counts.marks = counts.marks.saturating_sub(writes.len() as u64);
            writes.push(put_key_counts(counts, expect));
            match self.store.commit(writes).await {
                // Their producers have sent batches since, or the next sweep removes
                // them.
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a value, and returns what to expect of it when it is replaced.
    async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<(Option<T>, Expect), StoreError> {
        let value = self.store.get(key).await?;
        let decoded = value.as_ref().map(|value: &Bytes| store::decode(key, value)).transpose()?;
        Ok((decoded, value.map_or(Expect::Nothing, Expect::Value)))
    }
}

fn put_key_counts(counts: KeyCounts, expect: Expect) -> Write {
    Write::Put { key: KEY_COUNTS_KEY.to_owned(), value: store::encode(&counts), expect }
}

fn totals_key(device: &str) -> String {
    format!("readings/device/{device}")
}

/// Names may contain slashes. The length of the producer's name makes the key unique.
fn mark_key(producer: &str, device: &str) -> String {
    format!("{MARK_KEYS}{}/{producer}/{device}", producer.len())
}

impl Collection {
    /// Accepts a batch, or recognizes one that was accepted before. If the future is
    /// dropped, nothing of the batch is accepted.
    pub async fn record(
        &mut self,
        producer: &str,
        device: &str,
        sequence: u64,
        readings: impl Iterator<Item = (u64, Result<Reading, Refusal>)>,
    ) -> Result<(), CollectError> {
        self.is_from(producer)?;
        if sequence == 0 {
            return Err(CollectError::BadSequence);
        }
        if !self.devices.contains_key(device)
            && let Err(refusal) = self.one_more(device).await?
        {
            readings.for_each(|(line, _)| self.tally.refuse(line, refusal.clone()));
            return Ok(());
        }
        let mut place = self.place(device).await?;
        let Some(known) = self.devices.get_mut(device) else { return Ok(()) };
        let expected = known.accepted_through + 1;
        if sequence > expected {
            return Err(CollectError::Gap { device: device.to_owned(), got: sequence, expected });
        }
        for (line, reading) in readings {
            match reading.and_then(Reading::check) {
                // A refused reading is refused again each time it is delivered.
                Err(refusal) => self.tally.refuse(line, refusal),
                Ok(_) if sequence < expected => self.tally.repeated_count += 1,
                Ok(reading) => {
                    self.tally.count += 1;
                    match (&mut known.added, place.take()) {
                        (Some(added), _) => added.totals.add(reading),
                        (none, Some(_place)) => *none = Some(Pending { totals: Totals::of(reading), _place }),
                        // Cannot happen: a device without totals got a permit above.
                        (None, None) => {}
                    }
                }
            }
        }
        known.accepted_through = known.accepted_through.max(sequence);
        Ok(())
    }

    /// A permit for the totals of a device, unless it already has totals.
    async fn place(&mut self, device: &str) -> Result<Option<OwnedSemaphorePermit>, CollectError> {
        if self.devices.get(device).is_some_and(|device| device.added.is_some()) {
            return Ok(None);
        }
        let places = self.collector.pending.clone();
        if let Ok(place) = places.clone().try_acquire_owned() {
            return Ok(Some(place));
        }
        // After the checkpoint this call holds no permit while it waits, and other
        // calls return theirs at their next checkpoint.
        self.checkpoint().await?;
        Ok(places.acquire_owned().await.ok())
    }

    fn is_from(&mut self, producer: &str) -> Result<(), CollectError> {
        if self.producer.is_empty() {
            names::check(producer).map_err(CollectError::BadProducer)?;
            producer.clone_into(&mut self.producer);
        }
        if self.producer == producer { Ok(()) } else { Err(CollectError::OtherProducer) }
    }

    /// Looks up how far the producer has got with a device.
    async fn one_more(&mut self, device: &str) -> Result<Result<(), Refusal>, CollectError> {
        if let Err(error) = names::check(device) {
            return Ok(Err(error.into()));
        }
        if self.devices.len() == CALL_DEVICES {
            return Ok(Err(Refusal::TooManyDevices(CALL_DEVICES)));
        }
        let place = self.collector.open.clone().try_acquire_owned();
        let _place = place.map_err(|_| CollectError::TooManyOpen)?;
        let (mark, _) = self.collector.get::<Mark>(&mark_key(&self.producer, device)).await?;
        let accepted_through = mark.map_or(0, |mark| mark.accepted_through);
        self.devices.insert(device.to_owned(), Device { mark, accepted_through, added: None, _place });
        Ok(Ok(()))
    }

    /// Makes the batches since the last checkpoint durable.
    ///
    /// Dropping the future does not stop a commit that has begun. Its result is lost,
    /// but the server recognizes the batches when they are delivered again. After an
    /// error this collection must not be used again.
    pub async fn checkpoint(&mut self) -> Result<(), CollectError> {
        let time = platform::now();
        let changed = self.devices.iter_mut().filter(|(_, device)| device.is_ahead());
        let changes: Vec<_> = changed.map(|(name, device)| device.change(name, time)).collect();
        if changes.is_empty() {
            return Ok(());
        }
        let (collector, producer) = (self.collector.clone(), self.producer.clone());
        let changing = tokio::spawn(async move { collector.change(&producer, &changes).await });
        changing.await.unwrap_or_else(|error| Err(StoreError::Broken(error.to_string()).into()))
    }

    /// Makes a last checkpoint, and returns the server's totals of every device of this
    /// call, ordered by name.
    pub async fn finish(mut self) -> Result<(Tally, Vec<Collected>), CollectError> {
        self.checkpoint().await?;
        let mut all = Vec::with_capacity(self.devices.len());
        for (device, Device { accepted_through, .. }) in self.devices {
            let (totals, _) = self.collector.get::<Totals>(&totals_key(&device)).await?;
            let statistics = totals.map(|totals| totals.statistics());
            all.push(Collected { device, accepted_through, statistics });
        }
        Ok((self.tally, all))
    }
}

impl Tally {
    fn refuse(&mut self, line: u64, refusal: Refusal) {
        self.refused_count += 1;
        if self.refused.len() < LISTED_REFUSALS {
            self.refused.push((line, refusal));
        }
    }
}

impl Device {
    /// Whether it has batches that the store lacks.
    fn is_ahead(&self) -> bool {
        self.accepted_through > self.mark.map_or(0, |mark| mark.accepted_through)
    }

    fn change(&mut self, name: &str, time: SystemTime) -> Change {
        let to = Mark { accepted_through: self.accepted_through, time };
        let from = self.mark.replace(to);
        let added = self.added.take();
        let added = added.map(|added| Pending { totals: added.totals.flushed(), ..added });
        Change { device: name.to_owned(), from, to, added }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::{Answer, Extent, Memory, Record, Written};

    fn readings(values: &[f64]) -> impl Iterator<Item = (u64, Result<Reading, Refusal>)> {
        let time = SystemTime::UNIX_EPOCH;
        values.iter().map(move |value| (1, Ok(Reading { time, value: *value })))
    }

    fn collector() -> (Arc<dyn Store>, Arc<Collector>) {
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        (store.clone(), Arc::new(Collector::new(store)))
    }

    /// The totals of a device, as another server sees them.
    async fn total(store: &Arc<dyn Store>, device: &str) -> Option<Statistics> {
        let totals: Option<Totals> = Collector::new(store.clone()).get(&totals_key(device)).await.unwrap().0;
        totals.map(|totals| totals.statistics())
    }

    async fn counts(store: &Arc<dyn Store>) -> KeyCounts {
        Collector::new(store.clone()).get(KEY_COUNTS_KEY).await.unwrap().0.unwrap_or_default()
    }

    #[tokio::test]
    async fn what_is_delivered_again_changes_nothing() {
        let (store, collector) = collector();
        for round in 0..3 {
            let mut call = collector.begin();
            // The second delivery of each batch is in the same call.
            for sequence in [1, 1, 2, 2] {
                call.record("p", "d", sequence, readings(&[1.0, 2.0])).await.unwrap();
            }
            let (tally, all) = call.finish().await.unwrap();
            let count = if round == 0 { 4 } else { 0 };
            assert_eq!((tally.count, tally.repeated_count), (count, 8 - count));
            assert_eq!(all[0].accepted_through, 2);
            assert_eq!(all[0].statistics, total(&store, "d").await);
            assert_eq!(total(&store, "d").await.unwrap().count, 4);
        }
        // Another producer has its own numbering.
        let mut call = collector.begin();
        call.record("q", "d", 1, readings(&[3.0])).await.unwrap();
        call.finish().await.unwrap();
        assert_eq!(total(&store, "d").await.unwrap().count, 5);
        assert_eq!(counts(&store).await, KeyCounts { devices: 1, marks: 2 });
    }

    #[tokio::test]
    async fn a_missing_batch_is_noticed_and_the_expected_one_named() {
        let (_, collector) = collector();
        let mut call = collector.begin();
        call.record("p", "d", 1, readings(&[1.0])).await.unwrap();
        let gap = call.record("p", "d", 3, readings(&[1.0])).await;
        assert_eq!(gap, Err(CollectError::Gap { device: "d".into(), got: 3, expected: 2 }));
        // Batch 1 was not durable, so the next call begins at 1 again.
        let gap = collector.begin().record("p", "d", 2, readings(&[1.0])).await;
        assert_eq!(gap, Err(CollectError::Gap { device: "d".into(), got: 2, expected: 1 }));
    }

    #[tokio::test]
    async fn what_is_refused_is_named_each_time_and_the_rest_counts() {
        let (store, collector) = collector();
        for (count, repeated) in [(1, 0), (0, 1)] {
            let mut call = collector.begin();
            let mixed = [(2, f64::NAN), (3, 1.0)]
                .map(|(line, value)| (line, Ok(Reading { time: SystemTime::UNIX_EPOCH, value })));
            call.record("p", "d", 1, mixed.into_iter().chain([(4, Err(Refusal::Time))])).await.unwrap();
            call.record("p", "", 1, readings(&[1.0])).await.unwrap();
            call.record("p", "bad only", 1, readings(&[f64::INFINITY])).await.unwrap();
            let (tally, all) = call.finish().await.unwrap();
            assert_eq!((tally.count, tally.repeated_count, tally.refused_count), (count, repeated, 4));
            let lines: Vec<_> = tally.refused.iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, [2, 4, 1, 1]);
            let empty = Collected { device: "bad only".into(), accepted_through: 1, statistics: None };
            assert_eq!(all[0], empty);
            assert_eq!(all[1].statistics.as_ref().unwrap().count, 1);
            assert_eq!(all.len(), 2);
        }
        assert_eq!(counts(&store).await, KeyCounts { devices: 1, marks: 2 });
    }

    #[tokio::test]
    async fn a_call_is_of_one_producer_and_numbers_begin_at_1() {
        let mut call = collector().1.begin();
        let recorded = call.record("", "d", 1, readings(&[])).await;
        assert_eq!(recorded, Err(CollectError::BadProducer(BadName::Blank)));
        call.record("p", "d", 1, readings(&[])).await.unwrap();
        assert_eq!(call.record("q", "d", 1, readings(&[])).await, Err(CollectError::OtherProducer));
        assert_eq!(call.record("p", "d", 0, readings(&[])).await, Err(CollectError::BadSequence));
    }

    #[tokio::test]
    async fn devices_and_listed_refusals_of_a_call_are_bounded() {
        let mut call = collector().1.begin();
        for n in 0..CALL_DEVICES + 200 {
            call.record("p", &n.to_string(), 1, readings(&[1.0])).await.unwrap();
        }
        call.record("p", "7", 2, readings(&[1.0])).await.unwrap();
        let (tally, all) = call.finish().await.unwrap();
        assert_eq!((tally.count, tally.refused_count), (CALL_DEVICES as u64 + 1, 200));
        assert_eq!((tally.refused.len(), all.len()), (LISTED_REFUSALS, CALL_DEVICES));
    }

    #[tokio::test]
    async fn calls_with_many_devices_wait_for_each_other_and_lose_nothing() {
        let (store, collector) = collector();
        let call = async |producer: &str| {
            let mut call = collector.begin();
            for n in 0..3 * PENDING {
                call.record(producer, &n.to_string(), 1, readings(&[1.0])).await.unwrap();
                assert!(call.devices.values().filter(|device| device.added.is_some()).count() <= PENDING);
            }
            call.finish().await.unwrap();
        };
        tokio::join!(call("a"), call("b"));
        for n in 0..3 * PENDING {
            assert_eq!(total(&store, &n.to_string()).await.unwrap().count, 2);
        }
        assert_eq!(collector.pending.available_permits(), PENDING);
        assert_eq!(collector.open.available_permits(), OPEN_DEVICES);
    }

    #[tokio::test]
    async fn devices_of_all_open_calls_are_bounded() {
        let (_, collector) = collector();
        collector.open.forget_permits(OPEN_DEVICES - 1);
        let mut one = collector.begin();
        one.record("a", "device", 1, readings(&[1.0])).await.unwrap();
        let refused = collector.begin().record("b", "device", 1, readings(&[1.0])).await;
        assert_eq!(refused, Err(CollectError::TooManyOpen));
        drop(one);
        collector.begin().record("b", "device", 1, readings(&[1.0])).await.unwrap();
    }

    #[tokio::test]
    async fn devices_and_marks_of_the_server_are_bounded() {
        for (has, expected) in [
            (KeyCounts { devices: DEVICES, marks: 0 }, CollectError::TooManyDevices),
            (KeyCounts { devices: 0, marks: MARKS }, CollectError::TooManyMarks),
        ] {
            let (store, collector) = collector();
            store.commit(vec![put_key_counts(has, Expect::Anything)]).await.unwrap();
            let mut call = collector.begin();
            call.record("p", "d", 1, readings(&[1.0])).await.unwrap();
            assert_eq!(call.finish().await.err(), Some(expected));
            assert_eq!(total(&store, "d").await, None);
        }
    }

    #[tokio::test]
    async fn of_two_calls_of_one_producer_the_slower_is_told() {
        let (store, collector) = collector();
        let (mut slow, mut quick) = (collector.begin(), collector.begin());
        slow.record("p", "d", 1, readings(&[1.0])).await.unwrap();
        for sequence in [1, 2] {
            quick.record("p", "d", sequence, readings(&[1.0])).await.unwrap();
        }
        quick.finish().await.unwrap();
        assert_eq!(slow.finish().await.err(), Some(CollectError::Fenced { producer: "p".into() }));
        assert_eq!(total(&store, "d").await.unwrap().count, 2);
    }

    #[tokio::test]
    async fn names_with_a_slash_are_not_mixed_up() {
        let (_, collector) = collector();
        for (producer, device) in [("a/b", "c"), ("a", "b/c"), ("a/b/c", "c")] {
            let mut call = collector.begin();
            call.record(producer, device, 1, readings(&[1.0])).await.unwrap();
            assert_eq!(call.finish().await.unwrap().0.count, 1, "{producer} {device}");
        }
    }

    #[tokio::test]
    async fn a_producer_is_forgotten_after_a_week_and_its_readings_are_not() {
        let (store, collector) = collector();
        for n in 0..SWEEP_AT_ONCE + 7 {
            let mut call = collector.begin();
            call.record(&n.to_string(), "d", 1, readings(&[1.0])).await.unwrap();
            call.finish().await.unwrap();
        }
        let all = SWEEP_AT_ONCE as u64 + 7;
        let now = SystemTime::now();
        collector.sweep_at(now + REMEMBERED - Duration::from_secs(60)).await.unwrap();
        assert_eq!(counts(&store).await, KeyCounts { devices: 1, marks: all });
        collector.sweep_at(now + REMEMBERED + Duration::from_secs(60)).await.unwrap();
        assert_eq!(counts(&store).await, KeyCounts { devices: 1, marks: 0 });
        assert_eq!(store.list(MARK_KEYS, "", 1).await.unwrap(), []);
        assert_eq!(total(&store, "d").await.unwrap().count, all);
    }

    /// A store that another writer also uses: it makes a change before each of the
    /// first commits. The store can also be full.
    #[derive(Debug)]
    struct Shared {
        store: Arc<dyn Store>,
        before: std::sync::Mutex<Vec<Write>>,
        full: std::sync::atomic::AtomicBool,
    }

    impl Store for Shared {
        fn commit(&self, writes: Vec<Write>) -> Answer<Vec<Written>> {
            if self.full.load(std::sync::atomic::Ordering::SeqCst) {
                return Box::pin(std::future::ready(Err(StoreError::Full)));
            }
            let before = self.before.lock().unwrap().pop();
            let (before, commit) =
                (before.map(|write| self.store.commit(vec![write])), self.store.commit(writes));
            drop(before);
            commit
        }
        fn read(&self, stream: &str, from: u64, most: usize) -> Answer<Vec<Record>> {
            self.store.read(stream, from, most)
        }
        fn extent(&self, stream: &str) -> Answer<Extent> {
            self.store.extent(stream)
        }
        fn streams(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Extent)>> {
            self.store.streams(prefix, after, most)
        }
        fn watch(&self, stream: &str) -> tokio::sync::watch::Receiver<u64> {
            self.store.watch(stream)
        }
        fn get(&self, key: &str) -> Answer<Option<Bytes>> {
            self.store.get(key)
        }
        fn list(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Bytes)>> {
            self.store.list(prefix, after, most)
        }
    }

    #[tokio::test]
    async fn totals_that_another_server_changed_meanwhile_are_added_to() {
        let other = |values: &[f64]| {
            let mut totals = readings(values).map(|(_, reading)| Totals::of(reading.unwrap()).flushed());
            let first = totals.next().unwrap();
            let value = store::encode(&totals.fold(first, |all, one| all.and(&one)));
            Write::Put { key: totals_key("d"), value, expect: Expect::Anything }
        };
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let before = vec![other(&[10.0, 20.0, 30.0]), other(&[10.0, 20.0]), other(&[10.0])];
        let shared = Shared { store: store.clone(), before: before.into(), full: false.into() };
        let mut call = Arc::new(Collector::new(Arc::new(shared))).begin();
        call.record("p", "d", 1, readings(&[1.0])).await.unwrap();
        call.finish().await.unwrap();
        let total = total(&store, "d").await.unwrap();
        assert_eq!((total.count, total.min, total.max, total.mean), (4, 1.0, 30.0, 15.25));
    }

    #[tokio::test]
    async fn nothing_of_a_checkpoint_counts_when_the_disk_is_full() {
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let shared = Arc::new(Shared { store: store.clone(), before: Vec::new().into(), full: false.into() });
        let collector = Arc::new(Collector::new(shared.clone()));
        let mut call = collector.begin();
        call.record("p", "d", 1, readings(&[1.0])).await.unwrap();
        call.checkpoint().await.unwrap();
        call.record("p", "d", 2, readings(&[1.0])).await.unwrap();
        call.record("p", "e", 1, readings(&[1.0])).await.unwrap();
        shared.full.store(true, std::sync::atomic::Ordering::SeqCst);
        let failed = call.finish().await.err().unwrap();
        assert_eq!(failed, CollectError::Store(StoreError::Full));
        assert_eq!(total(&store, "d").await.unwrap().count, 1);
        assert_eq!(total(&store, "e").await, None);
        shared.full.store(false, std::sync::atomic::Ordering::SeqCst);
        let mut call = collector.begin();
        for (device, sequence) in [("d", 1), ("d", 2), ("e", 1)] {
            call.record("p", device, sequence, readings(&[1.0])).await.unwrap();
        }
        let (tally, _) = call.finish().await.unwrap();
        assert_eq!((tally.count, tally.repeated_count), (2, 1));
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Delivers the next batches of a producer for a device, after going back by
        /// `back`.
        Deliver {
            producer: usize,
            device: usize,
            back: u64,
            batches: u64,
        },
        Checkpoint {
            producer: usize,
        },
        /// Drops the call without an answer.
        Crash {
            producer: usize,
        },
    }

    const PRODUCERS: usize = 3;
    const OF_DEVICES: usize = 2;

    fn step() -> impl Strategy<Value = Step> {
        let producer = 0..PRODUCERS;
        prop_oneof![
            6 => (producer.clone(), 0..OF_DEVICES, 0..4u64, 1..4u64)
                .prop_map(|(producer, device, back, batches)| Step::Deliver { producer, device, back, batches }),
            2 => producer.clone().prop_map(|producer| Step::Checkpoint { producer }),
            1 => producer.prop_map(|producer| Step::Crash { producer }),
        ]
    }

    /// Always the same for the same batch.
    fn values(producer: usize, device: usize, sequence: u64) -> Vec<f64> {
        let seed = sequence * 7 + device as u64 * 31 + producer as u64 * 101;
        (0..seed % 5).map(|n| (seed * 13 + n * 17) as f64 % 1000.0 - 300.0).collect()
    }

    async fn in_any_order(steps: Vec<Step>) {
        let (store, collector) = collector();
        let mut calls: Vec<_> = (0..PRODUCERS).map(|_| collector.begin()).collect();
        // The last batch that each producer has delivered for each device.
        let mut delivered = [[0; OF_DEVICES]; PRODUCERS];
        let mut durable = delivered;
        for step in steps {
            match step {
                Step::Deliver { producer, device, back, batches } => {
                    let from = (delivered[producer][device] + 1u64).saturating_sub(back).max(1);
                    for sequence in from..from + batches {
                        let values = values(producer, device, sequence);
                        let (name, device) = (producer.to_string(), device.to_string());
                        calls[producer].record(&name, &device, sequence, readings(&values)).await.unwrap();
                    }
                    let last = &mut delivered[producer][device];
                    *last = (*last).max(from + batches - 1);
                }
                Step::Checkpoint { producer } => {
                    calls[producer].checkpoint().await.unwrap();
                    durable[producer] = delivered[producer];
                }
                Step::Crash { producer } => {
                    calls[producer] = collector.begin();
                    delivered[producer] = durable[producer];
                }
            }
        }
        for (producer, call) in calls.into_iter().enumerate() {
            call.finish().await.unwrap();
            durable[producer] = delivered[producer];
        }
        for device in 0..OF_DEVICES {
            let each = |producer: usize| {
                let batches = 1..=durable.get(producer).map_or(0, |through| through[device]);
                batches.flat_map(move |sequence| values(producer, device, sequence))
            };
            let plain: Vec<f64> = (0..PRODUCERS).flat_map(each).collect();
            let total = total(&store, &device.to_string()).await;
            assert_eq!(total.as_ref().map_or(0, |total| total.count), plain.len() as u64);
            let Some(total) = total else { continue };
            let mean = plain.iter().sum::<f64>() / plain.len() as f64;
            let squares: f64 = plain.iter().map(|value| (value - mean).powi(2)).sum();
            let deviation = (squares / (plain.len() as f64 - 1.0).max(1.0)).sqrt();
            assert_eq!(total.min, plain.iter().copied().fold(f64::INFINITY, f64::min));
            assert_eq!(total.max, plain.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            assert!((total.mean - mean).abs() < 1e-9, "{total:?} {mean}");
            assert!((total.standard_deviation - deviation).abs() < 1e-9, "{total:?} {deviation}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_repeated_or_lost_each_batch_counts_once(
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(in_any_order(steps));
        }
    }
}

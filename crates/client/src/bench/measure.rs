//! What is measured while messages pass.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

use super::load::nanoseconds;
use crate::failure::Failure;

/// The longest time that is told from a longer one, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// Times of one kind, in nanoseconds, to three digits.
#[derive(Debug)]
pub(super) struct Times(Mutex<Histogram<u64>>);

impl Times {
    pub(super) fn new() -> Result<Self, Failure> {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3);
        Ok(Self(Mutex::new(histogram.map_err(|error| Failure::figures(&error))?)))
    }

    pub(super) fn record(&self, time: Duration) {
        self.lock().saturating_record(nanoseconds(time));
    }

    pub(super) fn record_n(&self, time: Duration, count: u64) {
        self.lock().saturating_record_n(nanoseconds(time), count);
    }

    pub(super) fn take(&self) -> Histogram<u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long messages waited to be sent.
#[derive(Debug)]
pub(super) struct Sending {
    /// Of each piece of a stream.
    pub(super) times: Times,
    /// Of all together, in nanoseconds.
    total: AtomicU64,
}

impl Sending {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self { times: Times::new()?, total: AtomicU64::new(0) })
    }

    pub(super) fn blocked(&self, time: Duration) {
        self.times.record(time);
        self.total.fetch_add(nanoseconds(time), Relaxed);
    }

    pub(super) fn total(&self) -> Duration {
        Duration::from_nanos(self.total.load(Relaxed))
    }
}

/// What one task has done, or all of them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Those that have arrived for sure.
    pub(super) messages: u64,
    /// gRPC's messages, in both directions: what the server counts as well.
    pub(super) frames: u64,
    /// Of each stream, from its beginning to the headers of the answer.
    pub(super) headers: Vec<Duration>,
    /// … to the first message of the answer.
    pub(super) first: Vec<Duration>,
    /// … from its last message to the answer that says that all have arrived.
    pub(super) acknowledged: Vec<Duration>,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.frames += other.frames;
        self.headers.extend(other.headers);
        self.first.extend(other.first);
        self.acknowledged.extend(other.acknowledged);
    }
}

/// The one in the middle.
pub(super) fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

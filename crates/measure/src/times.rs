//! What is recorded while messages pass.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::load::nanoseconds;

/// The longest time that is recorded exactly, in nanoseconds: an hour. Longer ones
/// count as this.
const LONGEST: u64 = 3_600_000_000_000;

/// Times of one kind in nanoseconds, to three digits.
#[derive(Debug)]
pub(crate) struct Times(Mutex<Histogram<u64>>);

impl Times {
    pub(crate) fn new() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are known")]
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3).expect("1 is below an hour");
        Self(Mutex::new(histogram))
    }

    pub(crate) fn record(&self, time: Duration) {
        self.lock().saturating_record(nanoseconds(time));
    }

    pub(crate) fn record_n(&self, time: Duration, count: u64) {
        self.lock().saturating_record_n(nanoseconds(time), count);
    }

    pub(crate) fn take(&self) -> Histogram<u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long messages waited to be sent.
#[derive(Debug)]
pub(crate) struct Sending {
    /// The times of single pieces of a stream.
    pub(crate) times: Times,
    /// The total in nanoseconds.
    total: AtomicU64,
}

impl Sending {
    pub(crate) fn new() -> Self {
        Self { times: Times::new(), total: AtomicU64::new(0) }
    }

    pub(crate) fn blocked(&self, time: Duration) {
        self.times.record(time);
        self.total.fetch_add(nanoseconds(time), Relaxed);
    }

    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.total.load(Relaxed))
    }
}

/// What one task has done, or all tasks together.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Messages that have arrived for certain.
    pub(crate) messages: u64,
    /// The payload of all messages in both directions.
    pub(crate) bytes: u64,
    /// gRPC messages in both directions, which the server counts too.
    pub(crate) frames: u64,
    /// For each stream, the time from its beginning to the headers of the response.
    pub(crate) headers: Vec<Duration>,
    /// For each stream, the time to the first message of the response.
    pub(crate) first: Vec<Duration>,
    /// For each stream, the time from its last message to the response that confirms
    /// all messages.
    pub(crate) acknowledged: Vec<Duration>,
}

impl Tally {
    pub(crate) fn passed(&mut self, messages: u64, bytes: usize) {
        self.messages += messages;
        self.bytes += bytes as u64;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.frames += other.frames;
        self.headers.extend(other.headers);
        self.first.extend(other.first);
        self.acknowledged.extend(other.acknowledged);
    }
}

/// The median.
pub(crate) fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

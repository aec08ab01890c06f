//! What the server is doing: counted by the trace layer, told by `GetStatus`.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::SystemTime,
};

use grpc_wire::Mode;

/// Counts for each mode since the start.
#[derive(Debug)]
pub(crate) struct Activity {
    pub(crate) start_time: SystemTime,
    modes: [Counters; Mode::ALL.len()],
}

/// Counts of one mode. Read one by one, so they need not be of one instant.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    started: AtomicU64,
    ended: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { start_time: SystemTime::now(), modes: Default::default() }
    }

    pub(crate) fn of(&self, mode: Mode) -> &Counters {
        &self.modes[mode as usize]
    }
}

impl Counters {
    pub(crate) fn call_started(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    pub(crate) fn call_ended(&self) {
        self.ended.fetch_add(1, Relaxed);
    }

    pub(crate) fn messages_received(&self, count: u64) {
        self.received.fetch_add(count, Relaxed);
    }

    pub(crate) fn messages_sent(&self, count: u64) {
        self.sent.fetch_add(count, Relaxed);
    }

    pub(crate) fn started(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// Calls that have begun and not ended.
    pub(crate) fn open(&self) -> u64 {
        // The end is read first: the other way round, a call that begins and
        // ends in between would make the difference negative.
        let ended = self.ended.load(Relaxed);
        self.started.load(Relaxed).saturating_sub(ended)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

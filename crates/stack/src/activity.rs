//! What the server is doing: counts for each mode since the start.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use grpc_wire::Mode;

/// Counts the calls and the messages of each mode since the start.
#[derive(Debug, Default)]
pub struct Activity([Counters; Mode::ALL.len()]);

/// The counts of one mode. They are read one by one, so they may differ by an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Started calls.
    pub calls_started: u64,
    /// Open calls.
    pub calls_open: u64,
    /// Messages of clients.
    pub messages_received: u64,
    /// Messages to clients.
    pub messages_sent: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    started: AtomicU64,
    ended: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Activity {
    /// What calls of a mode come to so far.
    pub fn counts(&self, mode: Mode) -> Counts {
        let Counters { started, ended, received, sent } = self.of(mode);
        // The end is read first: the other way round, a call that begins and
        // ends in between would make the difference negative.
        let ended = ended.load(Relaxed);
        let calls_started = started.load(Relaxed);
        Counts {
            calls_started,
            calls_open: calls_started.saturating_sub(ended),
            messages_received: received.load(Relaxed),
            messages_sent: sent.load(Relaxed),
        }
    }

    pub(crate) fn of(&self, mode: Mode) -> &Counters {
        &self.0[mode as usize]
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
}

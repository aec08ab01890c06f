//! From what passes on connections to those who hear of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use timeline::Side;
use transport::{Onlooker, Onlookers, Passed};

use crate::{Depth, Event, Seen, decoder::Decoder, numbers::Numbers};

/// What the connections of a run have in common. A clone goes on with the same numbers.
#[derive(Clone)]
pub struct Taps {
    begun: Instant,
    connections: Numbers,
    calls: Numbers,
    depth: Depth,
    hear: Arc<dyn Fn(Event) + Send + Sync>,
}

impl std::fmt::Debug for Taps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Taps").field("depth", &self.depth).finish_non_exhaustive()
    }
}

impl Taps {
    /// Begins now. `hear` is called in between the bytes of a connection, so it must not
    /// block.
    pub fn new(depth: Depth, hear: impl Fn(Event) + Send + Sync + 'static) -> Self {
        let (connections, calls) = (Numbers::default(), Numbers::default());
        Self { begun: Instant::now(), connections, calls, depth, hear: Arc::new(hear) }
    }

    /// The same, where somebody else hears of it as well, and first.
    pub fn also(&self, hear: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        let then = self.hear.clone();
        let hear = move |event: Event| {
            hear(&event);
            then(event);
        };
        Self { hear: Arc::new(hear), ..self.clone() }
    }

    /// When it began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// For the connections of a client in this program.
    pub fn onlookers(&self) -> Onlookers {
        let taps = self.clone();
        Onlookers::new(move || {
            let ends = Ends(taps.one());
            ends.0.tell(0, Seen::Connected { client: "this program".to_owned() });
            Onlooker::new(move |passed| match passed {
                Passed::Sent(bytes) => ends.0.see(Side::Client, bytes),
                Passed::Received(bytes) => ends.0.see(Side::Server, bytes),
            })
        })
    }

    /// For the next connection.
    pub(crate) fn one(&self) -> Tap {
        let decoder = Mutex::new(Decoder::new(self.calls.clone(), self.depth.clone()));
        let (number, taps) = (self.connections.next(), self.clone());
        Tap { number, taps, decoder, closed_by: Mutex::new(None) }
    }
}

/// Dropped, the connection is over.
struct Ends(Tap);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.closed("the connection has ended");
    }
}

/// What sees all that passes on a connection.
pub(crate) struct Tap {
    number: u64,
    taps: Taps,
    /// Held for as long as a piece takes: both directions are in one task.
    decoder: Mutex<Decoder>,
    closed_by: Mutex<Option<Side>>,
}

impl Tap {
    pub(crate) fn tell(&self, call: u64, seen: Seen) {
        let at_us = self.taps.begun.elapsed().as_micros() as u64;
        (self.taps.hear)(Event { at_us, connection: self.number, call, seen });
    }

    pub(crate) fn note(&self, text: String) {
        self.tell(0, Seen::Note { text });
    }

    /// Hands what a side has sent to the decoder.
    pub(crate) fn see(&self, from: Side, bytes: &[u8]) {
        self.decode(|decoder, at, see| decoder.pass(from, bytes, at).for_each(see));
    }

    pub(crate) fn decode<T>(
        &self,
        decode: impl FnOnce(&mut Decoder, Duration, &mut dyn FnMut((u64, Seen))) -> T,
    ) -> T {
        let at = self.taps.begun.elapsed();
        let (at_us, connection) = (at.as_micros() as u64, self.number);
        let mut see = |(call, seen)| (self.taps.hear)(Event { at_us, connection, call, seen });
        decode(&mut self.decoder.lock().unwrap_or_else(PoisonError::into_inner), at, &mut see)
    }

    /// One direction has ended.
    pub(crate) fn half_closed(&self, by: Side) {
        let first = *self.closed_by.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(by);
        self.decode(|decoder, _, see| decoder.half_closed(by, first).for_each(see));
    }

    pub(crate) fn first_to_close(&self) -> Side {
        self.closed_by.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(Side::Client)
    }

    /// The connection is over, which ends its calls.
    pub(crate) fn closed(&self, reason: &str) {
        self.decode(|decoder, _, see| decoder.closed(reason).for_each(see));
    }
}

//! Keeps a long run of messages readable: the first few are shown, then one
//! now and then, then the last.

use std::time::Duration;

use prost_reflect::MessageDescriptor;

use super::{Event, Kind, Message, Side};

/// How many messages of a run are always shown.
const FIRST: u64 = 10;
/// Messages this far apart are worth a line each, however many there are.
const SLOW: Duration = Duration::from_millis(50);
/// How often a fast run shows that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// A run: messages of either side with nothing else between them.
#[derive(Debug)]
pub(super) struct Fold {
    /// Whether time counts, as it does for somebody who watches.
    live: bool,
    seen: u64,
    last_seen: Duration,
    last_shown: Duration,
    /// How many were not shown since the last that was, the latest of them.
    folded: u64,
    latest: Option<Held>,
}

/// A message that was not shown when it passed.
#[derive(Debug)]
pub(super) struct Held {
    at: Duration,
    client: String,
    from: Side,
    number: u64,
    compressed: bool,
    descriptor: Option<MessageDescriptor>,
    bytes: Vec<u8>,
}

impl Fold {
    pub(super) fn new(live: bool) -> Self {
        Self { live, seen: 0, last_seen: Duration::ZERO, last_shown: Duration::ZERO, folded: 0, latest: None }
    }

    /// Takes the next message of the run. To be shown now, after a word on how
    /// many were folded before it; or, with `None`, not now.
    pub(super) fn message(
        &mut self,
        at: Duration,
        client: &str,
        from: Side,
        number: u64,
        message: &Message<'_>,
    ) -> Option<u64> {
        self.seen += 1;
        let slow = self.live && at.saturating_sub(self.last_seen) >= SLOW;
        let due = self.live && at.saturating_sub(self.last_shown) >= SIGN_OF_LIFE;
        self.last_seen = at;
        if self.seen <= FIRST || slow || due {
            self.last_shown = at;
            self.latest = None;
            return Some(std::mem::take(&mut self.folded));
        }
        self.folded += 1;
        let mut bytes = self.latest.take().map(|held| held.bytes).unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(message.bytes);
        self.latest = Some(Held {
            at,
            client: client.to_owned(),
            from,
            number,
            compressed: message.compressed,
            descriptor: message.descriptor.cloned(),
            bytes,
        });
        None
    }

    /// Ends the run. If its last message was not shown, it is to be shown now,
    /// after a word on how many were folded before it.
    pub(super) fn end(&mut self) -> Option<(u64, Held)> {
        let latest = self.latest.take();
        let folded = std::mem::replace(self, Self::new(self.live)).folded;
        latest.map(|held| (folded - 1, held))
    }
}

impl Held {
    pub(super) fn event(&self) -> Event<'_> {
        let message =
            Message { bytes: &self.bytes, compressed: self.compressed, descriptor: self.descriptor.as_ref() };
        Event {
            at: self.at,
            client: &self.client,
            kind: Kind::Message { from: self.from, number: self.number, message },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of `count` messages, `apart` from each other, are shown, and how
    /// many were folded before each.
    fn shown(live: bool, count: u64, apart: Duration) -> Vec<(u64, u64)> {
        let mut fold = Fold::new(live);
        let message = Message { bytes: b"", compressed: false, descriptor: None };
        let mut shown = Vec::new();
        for n in 1..=count {
            let at = apart * n as u32;
            if let Some(folded) = fold.message(at, "client", Side::Server, n, &message) {
                shown.push((n, folded));
            }
        }
        if let Some((folded, held)) = fold.end() {
            shown.push((held.number, folded));
        }
        shown
    }

    #[test]
    fn a_fast_run_shows_its_beginning_its_end_and_signs_of_life() {
        let first: Vec<_> = (1..=10).map(|n| (n, 0)).collect();
        assert_eq!(shown(true, 10, Duration::from_millis(1)), first);
        assert_eq!(shown(true, 11, Duration::from_millis(1))[10..], [(11, 0)]);
        assert_eq!(shown(true, 1_000, Duration::from_micros(1))[10..], [(1_000, 989)]);
        let lively = shown(true, 2_500, Duration::from_millis(1));
        assert_eq!(lively[10..], [(1_010, 999), (2_010, 999), (2_500, 489)]);
    }

    #[test]
    fn nothing_gets_lost_in_the_count() {
        for count in 1..3_000 {
            let shown = shown(true, count, Duration::from_millis(1));
            assert_eq!(shown.iter().map(|(_, folded)| folded + 1).sum::<u64>(), count);
        }
    }

    #[test]
    fn a_slow_run_is_shown_whole_to_whoever_watches() {
        assert_eq!(shown(true, 100, Duration::from_millis(100)).len(), 100);
        assert_eq!(shown(false, 100, Duration::from_millis(100)).len(), 11);
    }
}

//! Keeps a long run of messages readable: shows the first few, then one now and then,
//! and the last.

use std::{collections::VecDeque, time::Duration};

use prost_reflect::MessageDescriptor;

use crate::{Event, Kind, Message, Side};

/// How many messages of a burst are usually shown before the rest is folded.
const FIRST: u64 = 10;
/// A pause of this length ends a burst. Programs send bursts; people pause for longer
/// between messages.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a long burst shows a message.
const REFRESH: Duration = Duration::from_secs(1);

/// A run: messages of either side, without other events between them.
#[derive(Debug)]
pub(crate) struct Fold {
    /// Whether time matters, as it does when a person watches.
    live: bool,
    /// How many messages of a burst are shown before the rest is folded.
    first: u64,
    /// How many messages the present burst has had.
    burst: u64,
    last_seen: Duration,
    last_shown: Duration,
    /// The number of messages not shown before those in `held`.
    folded: u64,
    /// The latest messages not shown. There are two, so that a fold never stands for a
    /// single message.
    held: VecDeque<Held>,
}

/// A message that was not shown when it passed.
#[derive(Debug)]
pub(crate) struct Held {
    at: Duration,
    client: String,
    from: Side,
    number: u64,
    encoding: Option<String>,
    descriptor: Option<MessageDescriptor>,
    bytes: Vec<u8>,
}

impl Fold {
    pub(crate) fn new(live: bool) -> Self {
        Self {
            live,
            first: FIRST,
            burst: 0,
            last_seen: Duration::ZERO,
            last_shown: Duration::ZERO,
            folded: 0,
            held: VecDeque::with_capacity(2),
        }
    }

    /// Sets how many messages of a burst are shown before the rest is folded.
    pub(crate) fn after(self, first: u64) -> Self {
        Self { first, ..self }
    }

    /// Takes the next event. Returns `None` when it is not to be shown now; otherwise,
    /// what was held back and has to be shown before it.
    pub(crate) fn pass(&mut self, event: &Event<'_>) -> Option<(u64, Vec<Held>)> {
        match &event.kind {
            Kind::Message { from, number, message } => {
                self.shows(event.at, event.client, *from, *number, message).then(|| self.flush())
            }
            _ => Some(self.end()),
        }
    }

    /// Takes the next message of the run. Returns true when it is to be shown now,
    /// after what was [held back](Self::flush).
    fn shows(&mut self, at: Duration, client: &str, from: Side, number: u64, message: &Message<'_>) -> bool {
        if self.live && at.saturating_sub(self.last_seen) >= PAUSE {
            self.burst = 0;
        }
        self.burst += 1;
        self.last_seen = at;
        let due = self.live && at.saturating_sub(self.last_shown) >= REFRESH;
        if self.burst <= self.first || due {
            self.last_shown = at;
            return true;
        }
        let mut bytes = match self.held.len() {
            2 => {
                self.folded += 1;
                self.held.pop_front().map(|held| held.bytes).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        bytes.clear();
        bytes.extend_from_slice(message.bytes);
        self.held.push_back(Held {
            at,
            client: client.to_owned(),
            from,
            number,
            encoding: message.encoding.map(str::to_owned),
            descriptor: message.descriptor.cloned(),
            bytes,
        });
        false
    }

    /// Returns what was held back: how many messages stay folded, and the messages to
    /// show after a note about them.
    fn flush(&mut self) -> (u64, Vec<Held>) {
        let mut folded = std::mem::take(&mut self.folded);
        let mut held = std::mem::take(&mut self.held);
        if folded > 0 && held.len() == 2 {
            folded += 1;
            held.pop_front();
        }
        if let Some(last) = held.back() {
            self.last_shown = self.last_shown.max(last.at);
        }
        (folded, held.into())
    }

    /// Calls [`flush`](Self::flush) if the burst has paused by now, so that the last
    /// message is shown without waiting for another one.
    pub(crate) fn flush_if_paused(&mut self, now: Duration) -> (u64, Vec<Held>) {
        if self.live && now.saturating_sub(self.last_seen) >= PAUSE { self.flush() } else { (0, Vec::new()) }
    }

    /// Ends the run, like [`flush`](Self::flush).
    pub(crate) fn end(&mut self) -> (u64, Vec<Held>) {
        self.burst = 0;
        self.flush()
    }
}

impl Held {
    pub(crate) fn event(&self) -> Event<'_> {
        let message = Message {
            bytes: &self.bytes,
            encoding: self.encoding.as_deref(),
            descriptor: self.descriptor.as_ref(),
        };
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

    /// Returns which of `count` messages, `apart` from each other, are shown, and how
    /// many were folded before each.
    fn shown(live: bool, count: u64, apart: Duration) -> Vec<(u64, u64)> {
        let mut fold = Fold::new(live);
        let message = Message { bytes: b"", encoding: None, descriptor: None };
        let mut shown = Vec::new();
        let flushed = |(folded, held): (u64, Vec<Held>), shown: &mut Vec<_>| {
            let before = std::iter::once(folded).chain(std::iter::repeat(0));
            shown.extend(held.iter().zip(before).map(|(held, folded)| (held.number, folded)));
        };
        for n in 1..=count {
            if fold.shows(apart * n as u32, "client", Side::Server, n, &message) {
                flushed(fold.flush(), &mut shown);
                shown.push((n, 0));
            }
        }
        flushed(fold.end(), &mut shown);
        shown
    }

    const QUICK: Duration = Duration::from_micros(100);

    #[test]
    fn a_burst_shows_its_beginning_its_end_and_signs_of_life() {
        let first: Vec<_> = (1..=10).map(|n| (n, 0)).collect();
        assert_eq!(shown(true, 10, QUICK), first);
        assert_eq!(shown(true, 1_000, QUICK)[10..], [(1_000, 989)]);
        let lively = shown(true, 25_000, QUICK);
        assert_eq!(lively[10..13], [(10_009, 9_998), (10_010, 0), (20_009, 9_998)]);
        assert_eq!(lively[13..], [(20_010, 0), (25_000, 4_989)]);
    }

    #[test]
    fn a_fold_stands_for_two_messages_at_least_and_none_is_lost() {
        for count in 1..3_000 {
            let shown = shown(true, count, QUICK);
            assert!(shown.iter().all(|(_, folded)| *folded != 1), "{count}: {shown:?}");
            assert_eq!(shown.iter().map(|(_, folded)| folded + 1).sum::<u64>(), count);
        }
    }

    #[test]
    fn what_comes_slowly_is_shown_whole_to_whoever_watches() {
        assert_eq!(shown(true, 100, Duration::from_millis(100)).len(), 100);
        assert_eq!(shown(false, 100, Duration::from_millis(100)).len(), 11);
    }

    #[test]
    fn people_who_answer_each_other_are_never_folded() {
        let mut fold = Fold::new(true);
        let message = Message { bytes: b"", encoding: None, descriptor: None };
        let mut at = Duration::ZERO;
        for n in 0..200 {
            // A post and its echo, then a pause to think.
            at += Duration::from_millis(if n % 2 == 0 { 300 } else { 2 });
            assert!(fold.shows(at, "client", Side::Client, n, &message), "message {n}");
        }
    }

    #[test]
    fn the_end_of_a_burst_does_not_wait_for_the_next_message() {
        let mut fold = Fold::new(true);
        let message = Message { bytes: b"", encoding: None, descriptor: None };
        for n in 1..=20 {
            fold.shows(QUICK * n as u32, "client", Side::Server, n, &message);
        }
        assert!(fold.flush_if_paused(QUICK * 21).1.is_empty());
        let (folded, held) = fold.flush_if_paused(Duration::from_millis(60));
        assert_eq!((folded, held[0].number), (9, 20));
        assert!(fold.end().1.is_empty());
    }
}

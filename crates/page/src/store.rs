//! The latest events of the latest calls.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use serde_json::{Value, json};

const CALLS: usize = 1_000;
const EVENTS: usize = 1_000;
const BYTES: usize = 64 << 20;
/// How many messages of one side of a call are in a batch: more than anyone can read.
const BATCH: usize = 200;

/// Takes the events of calls, and keeps the latest for the viewers.
#[derive(Debug, Default)]
pub struct Page {
    viewers: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By number, so that the oldest call comes first.
    calls: BTreeMap<u64, Call>,
    bytes: usize,
    /// The sequence of the latest event.
    sequence: u64,
}

#[derive(Debug, Default)]
struct Call {
    events: VecDeque<Event>,
    bytes: usize,
    /// The sequence of the latest event that is no longer kept.
    forgotten: u64,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Client,
    Server,
}

#[derive(Debug, Clone)]
struct Event {
    sequence: u64,
    /// The side that sent it, if it is a message.
    message: Option<Side>,
    json: Arc<str>,
}

/// Counts as a viewer for as long as it exists.
#[derive(Debug)]
pub(crate) struct Viewer {
    page: Arc<Page>,
    /// The sequence of the latest event that this viewer has seen.
    seen: u64,
}

impl Page {
    /// Whether there is a viewer. Without one, the page needs no events.
    pub fn is_watched(&self) -> bool {
        self.viewers.load(Relaxed) > 0
    }

    /// Takes an event of a call: an object with `type` and `at_ms`. Later calls have
    /// larger numbers.
    pub fn event(&self, call: u64, event: impl FnOnce() -> Value) {
        if !self.is_watched() {
            return;
        }
        let mut event = event();
        event["call"] = call.into();
        let side = if event["from"] == "client" { Side::Client } else { Side::Server };
        let message = (event["type"] == "message").then_some(side);
        self.lock().push(call, message, event.to_string().into());
    }

    pub(crate) fn look(self: &Arc<Self>) -> Viewer {
        self.viewers.fetch_add(1, Relaxed);
        Viewer { page: self.clone(), seen: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, number: u64, message: Option<Side>, json: Arc<str>) {
        self.sequence += 1;
        let call = self.calls.entry(number).or_default();
        call.bytes += json.len();
        self.bytes += json.len();
        call.events.push_back(Event { sequence: self.sequence, message, json });
        // The first event stays, because it says which call this is.
        while call.events.len() > EVENTS
            && let Some(event) = call.events.remove(1)
        {
            call.bytes -= event.json.len();
            self.bytes -= event.json.len();
            call.forgotten = event.sequence;
        }
        while (self.calls.len() > CALLS || self.bytes > BYTES)
            && let Some((_, call)) = self.calls.pop_first()
        {
            self.bytes -= call.bytes;
        }
    }

    /// The events after `seen`, call by call.
    fn after(&self, seen: u64) -> Vec<Arc<str>> {
        let mut batch = Vec::new();
        for (number, call) in &self.calls {
            let fresh = call.events.iter().rev().take_while(|event| event.sequence > seen);
            let mut fresh: Vec<_> = fresh.cloned().collect();
            fresh.reverse();
            let mut skipped = [0; 2];
            for side in fresh.iter().filter_map(|event| event.message) {
                skipped[side as usize] += 1;
            }
            skipped = skipped.map(|messages: usize| messages.saturating_sub(BATCH));
            let mut left_out = skipped;
            for event in fresh {
                match event.message.map(|side| (side as usize, left_out[side as usize])) {
                    Some((side, left @ 1..)) => {
                        left_out[side] = left - 1;
                        if left == 1 {
                            let count = skipped[side];
                            let note = json!({"call": number, "type": "skipped", "count": count});
                            batch.push(note.to_string().into());
                        }
                    }
                    _ => batch.push(event.json),
                }
            }
        }
        batch
    }
}

impl Viewer {
    /// The new events as a JSON array.
    pub(crate) fn news(&mut self) -> Option<String> {
        let kept = self.page.lock();
        let batch = kept.after(self.seen);
        self.seen = kept.sequence;
        drop(kept);
        (!batch.is_empty()).then(|| format!("[{}]", batch.join(",")))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        if self.page.viewers.fetch_sub(1, Relaxed) == 1 {
            *self.page.lock() = Kept::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(viewer: &mut Viewer) -> Vec<Value> {
        viewer.news().map(|batch| serde_json::from_str(&batch).expect("JSON")).unwrap_or_default()
    }

    #[test]
    fn nothing_is_made_or_kept_while_nobody_looks() {
        let page = Arc::new(Page::default());
        page.event(1, || panic!("nobody looks"));
        let viewer = page.look();
        page.event(1, || json!({"type": "half_close"}));
        assert_eq!(page.lock().calls.len(), 1);
        drop(viewer);
        assert_eq!(page.lock().calls.len(), 0);
        page.event(1, || panic!("nobody looks"));
    }

    #[test]
    fn each_viewer_gets_each_event_once_and_a_late_one_what_is_kept() {
        let page = Arc::new(Page::default());
        let mut first = page.look();
        page.event(7, || json!({"type": "headers"}));
        let headers = json!({"type": "headers", "call": 7});
        assert_eq!(news(&mut first), std::slice::from_ref(&headers));
        assert_eq!(news(&mut first), [Value::Null; 0]);
        page.event(7, || json!({"type": "half_close"}));
        let half_close = json!({"type": "half_close", "call": 7});
        assert_eq!(news(&mut first), std::slice::from_ref(&half_close));
        assert_eq!(news(&mut page.look()), [headers, half_close]);
    }

    #[test]
    fn of_many_messages_the_latest_are_shown_and_the_others_counted() {
        let page = Arc::new(Page::default());
        let mut viewer = page.look();
        page.event(1, || json!({"type": "headers"}));
        for number in 1..=500 {
            page.event(1, || json!({"type": "message", "number": number}));
        }
        page.event(1, || json!({"type": "trailers"}));
        let seen = news(&mut viewer);
        assert_eq!(seen.len(), 1 + 1 + BATCH + 1);
        assert_eq!(seen[0]["type"], "headers");
        assert_eq!((&seen[1]["type"], &seen[1]["count"]), (&json!("skipped"), &json!(300)));
        assert_eq!(seen[2]["number"], 301);
        assert_eq!(seen.last().expect("one")["type"], "trailers");
    }

    #[test]
    fn what_is_kept_has_bounds_and_the_head_of_a_call_stays() {
        let page = Arc::new(Page::default());
        let mut viewer = page.look();
        page.event(0, || json!({"type": "headers", "path": "/a/b"}));
        for number in 0..3_000 {
            page.event(0, || json!({"type": "half_close", "number": number}));
        }
        let kept = news(&mut viewer);
        assert_eq!(kept.len(), EVENTS);
        assert_eq!(kept[0]["path"], "/a/b");
        for call in 1..=2_000 {
            page.event(call, || json!({"type": "headers"}));
        }
        assert_eq!(page.lock().calls.len(), CALLS);
        for call in 3_000..3_100 {
            page.event(call, || json!({"type": "message", "value": "x".repeat(1 << 20)}));
        }
        let kept = page.lock();
        let bytes: usize =
            kept.calls.values().flat_map(|call| &call.events).map(|event| event.json.len()).sum();
        assert!(kept.bytes == bytes && bytes <= BYTES, "{bytes}");
    }
}

//! From the connections to the diagram, which may be slower.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    time::Duration,
};

use crate::{Event, Seen};

/// Where the connections put what they see. A clone puts it in the same place. What
/// does not fit is counted: a connection never waits here.
#[derive(Debug, Clone)]
pub struct Queue {
    sender: mpsc::Sender<Event>,
    shared: Arc<Shared>,
}

/// The other end.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// In bytes.
    most: usize,
    held: AtomicUsize,
    unseen: AtomicU64,
}

/// A queue that holds so many bytes.
pub fn queue(most: usize) -> (Queue, Events) {
    let (sender, receiver) = mpsc::channel();
    let shared = Arc::new(Shared { most, held: AtomicUsize::new(0), unseen: AtomicU64::new(0) });
    (Queue { sender, shared: shared.clone() }, Events { receiver, shared })
}

impl Queue {
    /// Puts an event in, unless there is no room for it. The end of a call, which
    /// comes once, always has some.
    pub fn put(&self, event: Event) {
        let size = event.seen.size();
        if self.shared.held.fetch_add(size, Relaxed) > self.shared.most && !event.seen.is_end() {
            self.shared.held.fetch_sub(size, Relaxed);
            self.shared.unseen.fetch_add(1, Relaxed);
        } else if self.sender.send(event).is_err() {
            // Nobody draws any more.
            self.shared.held.fetch_sub(size, Relaxed);
        }
    }
}

impl Events {
    /// Waits for the next one. Before it may come one that says how many are missing.
    pub(crate) fn next(&self, wait: Duration) -> Result<[Option<Event>; 2], mpsc::RecvTimeoutError> {
        // Where there is one, nobody looks at a clock.
        let event = self.receiver.try_recv().or_else(|_| self.receiver.recv_timeout(wait));
        if let Ok(event) = &event {
            self.shared.held.fetch_sub(event.seen.size(), Relaxed);
        }
        let events = self.shared.unseen.swap(0, Relaxed);
        let unseen = |at_us| Event { at_us, connection: 0, call: 0, seen: Seen::Unseen { events } };
        match event {
            Ok(event) => Ok([(events > 0).then(|| unseen(event.at_us)), Some(event)]),
            Err(_) if events > 0 => Ok([Some(unseen(0)), None]),
            Err(error) => Err(error),
        }
    }
}

//! When a connection writes its answers, on a server that has one core.
//!
//! Such a server makes the answers to all calls that have arrived, and then writes them. A client
//! with many calls in flight on one connection waits for the server meanwhile, and then the server
//! waits for the client. So when half of the calls that a connection has at a time are answered, the
//! other ones give way until these answers are written. On several cores that takes more CPU time
//! than it saves: the threads of both sides are in each other's way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::available_parallelism,
};

use tokio::task::yield_now;

/// The calls of all connections that are not answered.
#[derive(Debug, Clone)]
pub(crate) struct Unanswered {
    calls: Arc<AtomicUsize>,
    gives_way: bool,
}

impl Default for Unanswered {
    fn default() -> Self {
        let gives_way = available_parallelism().is_ok_and(|cores| cores.get() == 1);
        Self { calls: Arc::default(), gives_way }
    }
}

/// With fewer calls at a time, a half is not worth a write of its own.
const FEWEST: usize = 4;

/// How many calls make the next number of calls at a time.
const SAMPLE: usize = 256;

/// The calls of a connection.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Unanswered,
    unanswered: AtomicUsize,
    unwritten: AtomicUsize,
    /// The most calls at a time: of the last sample, and of this one.
    most: AtomicUsize,
    most_now: AtomicUsize,
    begun: AtomicUsize,
}

/// A call without an answer.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Turns>);

impl Turns {
    pub(crate) fn new(all: Unanswered) -> Arc<Self> {
        let [unanswered, unwritten, most, most_now, begun] = Default::default();
        Arc::new(Self { all, unanswered, unwritten, most, most_now, begun })
    }

    /// A call begins. On several cores it takes no turns.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Turn> {
        if !self.all.gives_way {
            return None;
        }
        self.all.calls.fetch_add(1, Relaxed);
        let at_a_time = self.unanswered.fetch_add(1, Relaxed) + 1 + self.unwritten.load(Relaxed);
        let most = self.most_now.fetch_max(at_a_time, Relaxed).max(at_a_time);
        if self.begun.fetch_add(1, Relaxed).is_multiple_of(SAMPLE) {
            self.most_now.store(0, Relaxed);
            self.most.store(most, Relaxed);
        } else {
            self.most.fetch_max(at_a_time, Relaxed);
        }
        Some(Turn(self.clone()))
    }

    /// Something was written.
    pub(crate) fn written(&self) {
        self.unwritten.store(0, Relaxed);
    }
}

impl Turn {
    /// The call has an answer, which may be written when this completes. If other connections
    /// have calls to answer, the server goes on with them in any case.
    pub(crate) async fn answered(self) {
        let turns = self.0.clone();
        drop(self);
        let unwritten = turns.unwritten.fetch_add(1, Relaxed) + 1;
        let most = turns.most.load(Relaxed);
        let is_alone = turns.all.calls.load(Relaxed) == turns.unanswered.load(Relaxed);
        if most >= FEWEST && unwritten > most / 2 && is_alone {
            yield_now().await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Relaxed);
        self.0.all.calls.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// Of so many calls at a time: those that give way before the first write.
    fn giving_way(calls: usize, turns: &Arc<Turns>) -> Vec<usize> {
        let begun: Vec<_> = (0..calls).filter_map(|_| turns.begin()).collect();
        let gives_way =
            |turn: Turn| pin!(turn.answered()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending;
        begun.into_iter().enumerate().filter_map(|(n, turn)| gives_way(turn).then_some(n)).collect()
    }

    fn on_one_core() -> Unanswered {
        Unanswered { calls: Arc::default(), gives_way: true }
    }

    #[test]
    fn when_half_is_answered_the_others_give_way_until_it_is_written() {
        let turns = Turns::new(on_one_core());
        assert_eq!(giving_way(8, &turns), [4, 5, 6, 7]);
        turns.written();
        assert!(giving_way(4, &turns).is_empty());
        turns.written();
        assert_eq!(giving_way(8, &turns), [4, 5, 6, 7]);
    }

    #[test]
    fn few_calls_do_not_give_way() {
        let turns = Turns::new(on_one_core());
        assert!(giving_way(FEWEST - 1, &turns).is_empty());
    }

    #[test]
    fn no_call_gives_way_while_another_connection_has_calls() {
        let all = on_one_core();
        let (busy, turns) = (Turns::new(all.clone()), Turns::new(all));
        let other = busy.begin();
        assert!(giving_way(8, &turns).is_empty());
        turns.written();
        drop(other);
        assert_eq!(giving_way(8, &turns), [4, 5, 6, 7]);
    }

    #[test]
    fn on_several_cores_no_call_gives_way() {
        let turns = Turns::new(Unanswered { gives_way: false, ..on_one_core() });
        assert!(giving_way(8, &turns).is_empty());
    }

    #[test]
    fn a_half_is_one_of_the_calls_that_a_connection_has_of_late() {
        let turns = Turns::new(on_one_core());
        giving_way(64, &turns);
        for _ in 0..SAMPLE {
            turns.written();
            giving_way(8, &turns);
        }
        turns.written();
        assert_eq!(giving_way(8, &turns), [4, 5, 6, 7]);
    }
}

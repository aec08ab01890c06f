//! Decides when to send each message, and when to stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::sync::Semaphore;

/// How much to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// This many messages.
    Messages(u64),
    /// As many messages as pass in this time.
    Duration(Duration),
}

/// The messages of one measurement, handed out one by one.
///
/// Without a rate, a message is due when a sender is free: a closed loop, in which a
/// server that stalls gets fewer messages and looks better than it is. With a rate,
/// each message is due at its time, whatever happened to those before.
#[derive(Debug)]
pub(crate) struct Load {
    begun: Instant,
    amount: Amount,
    /// The number of messages; a time limit may end the load earlier.
    total: u64,
    given: AtomicU64,
    over: AtomicBool,
    /// Closed when the load is over.
    ended: Semaphore,
    pace: Option<Pace>,
}

/// The schedule of an open loop.
#[derive(Debug)]
struct Pace {
    rate: u64,
    /// A permit for each message that is due.
    due: Semaphore,
    /// How many messages were sent noticeably late and how many much too late, and the
    /// longest delay.
    late: AtomicU64,
    overdue: AtomicU64,
    behind: AtomicU64,
}

/// How well an open loop kept its schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Schedule {
    /// In messages per second.
    pub(crate) rate: u64,
    /// How many messages were due.
    pub(crate) messages: u64,
    /// How many of them were never sent, because the time had long run out.
    pub(crate) unsent: u64,
    /// How many were sent more than [`LATE`] after they were due.
    pub(crate) late: u64,
    /// The longest delay.
    pub(crate) behind: Duration,
    /// Whether all were sent, and 99 of 100 in time.
    pub(crate) kept: bool,
}

/// Shorter delays come from timers.
pub(crate) const LATE: Duration = Duration::from_millis(2);
/// A message with a longer delay is not in time.
const BEHIND: Duration = Duration::from_millis(20);
/// How long an open loop may overrun its plan before it gives up the rest.
const PATIENCE: Duration = Duration::from_secs(2);

impl Load {
    /// Begins now.
    pub(crate) fn begin(amount: Amount, rate: Option<u64>) -> Arc<Self> {
        let begun = Instant::now();
        let (total, end) = match (amount, rate) {
            (Amount::Messages(messages), None) => (messages, None),
            (Amount::Duration(duration), None) => (u64::MAX, Some(duration)),
            (amount, Some(rate)) => {
                let planned = |messages: u64| Duration::from_secs_f64(messages as f64 / rate as f64);
                let total = match amount {
                    Amount::Messages(messages) => messages,
                    Amount::Duration(duration) => (duration.as_secs_f64() * rate as f64).ceil() as u64,
                };
                (total, Some(planned(total) + planned(total).max(PATIENCE)))
            }
        };
        let pace = rate.map(|rate| Pace {
            rate,
            due: Semaphore::new(0),
            late: AtomicU64::new(0),
            overdue: AtomicU64::new(0),
            behind: AtomicU64::new(0),
        });
        let (given, over) = Default::default();
        let ended = Semaphore::new(0);
        let load = Arc::new(Self { begun, amount, total, given, over, ended, pace });
        if let Some(end) = end {
            let load = Arc::downgrade(&load);
            tokio::spawn(async move {
                tokio::time::sleep(end).await;
                if let Some(load) = load.upgrade() {
                    load.end();
                }
            });
        }
        if load.pace.is_some() {
            let load = Arc::downgrade(&load);
            // In a thread of its own, because the runtime's timers have a resolution of
            // a millisecond.
            thread::spawn(move || {
                let mut released = 0;
                while let Some(load) = load.upgrade() {
                    match load.release(&mut released) {
                        Some(due) => {
                            // The sleeping thread must not keep the load alive.
                            drop(load);
                            thread::sleep(due.saturating_duration_since(Instant::now()));
                        }
                        None => return,
                    }
                }
            });
        }
        load
    }

    /// Stops handing out messages.
    pub(crate) fn end(&self) {
        self.over.store(true, Relaxed);
        self.ended.close();
        if let Some(pace) = &self.pace {
            pace.due.close();
        }
    }

    /// Waits until the time limit has ended the load.
    pub(crate) async fn ended(&self) {
        // The semaphore has no permits; it can only be closed.
        let _ = self.ended.acquire().await;
    }

    /// Whether no more messages are handed out.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Relaxed) || self.given.load(Relaxed) >= self.total
    }

    /// The number of the next message in a closed loop. Costs next to nothing.
    pub(crate) fn next_now(&self) -> Option<u64> {
        if self.over.load(Relaxed) {
            return None;
        }
        let number = self.given.fetch_add(1, Relaxed);
        (number < self.total).then_some(number)
    }

    /// Counts messages that passed without being taken from here.
    pub(crate) fn passed(&self, messages: u64) {
        self.given.fetch_add(messages, Relaxed);
    }

    /// Returns the time from which the next message counts: now in a closed loop. In an
    /// open loop it waits until the message is due.
    pub(crate) async fn next(&self) -> Option<Instant> {
        let Some(pace) = &self.pace else {
            return self.next_now().map(|_| Instant::now());
        };
        pace.due.acquire().await.ok()?.forget();
        let number = self.next_now()?;
        let due = self.begun + pace.after(number);
        let behind = due.elapsed();
        pace.late.fetch_add(u64::from(behind > LATE), Relaxed);
        pace.overdue.fetch_add(u64::from(behind > BEHIND), Relaxed);
        pace.behind.fetch_max(nanoseconds(behind), Relaxed);
        Some(due)
    }

    /// The time in which messages were sent. The last message of a schedule has its
    /// interval too, although none follows it.
    pub(crate) fn elapsed(&self) -> Duration {
        let scheduled = self.pace.as_ref().map(|pace| pace.after(self.given.load(Relaxed).min(self.total)));
        self.begun.elapsed().max(scheduled.unwrap_or_default())
    }

    /// Whether messages have a schedule.
    pub(crate) fn is_paced(&self) -> bool {
        self.pace.is_some()
    }

    /// The largest number of messages.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The time left; `None` if the load has no time limit.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        match self.amount {
            Amount::Duration(duration) => Some(duration.saturating_sub(self.begun.elapsed())),
            Amount::Messages(_) => None,
        }
    }

    /// From 0 to 1.
    pub(crate) fn progress(&self) -> f64 {
        match self.amount {
            Amount::Messages(messages) => self.given.load(Relaxed) as f64 / messages as f64,
            Amount::Duration(duration) => self.begun.elapsed().as_secs_f64() / duration.as_secs_f64(),
        }
        .clamp(0.0, 1.0)
    }

    /// The schedule, if there is one. Call this when all messages that were handed out have
    /// passed.
    pub(crate) fn schedule(&self) -> Option<Schedule> {
        let pace = self.pace.as_ref()?;
        let behind = Duration::from_nanos(pace.behind.load(Relaxed));
        let unsent = self.total.saturating_sub(self.given.load(Relaxed));
        let kept = unsent == 0 && pace.overdue.load(Relaxed) <= self.total / 100;
        let late = pace.late.load(Relaxed);
        Some(Schedule { rate: pace.rate, messages: self.total, unsent, late, behind, kept })
    }

    /// Releases the messages that are due. Returns when the next one is due, or `None`
    /// if there are no more.
    fn release(&self, released: &mut u64) -> Option<Instant> {
        let pace = self.pace.as_ref()?;
        let due = (self.begun.elapsed().as_secs_f64() * pace.rate as f64) as u64 + 1;
        let due = due.min(self.total);
        pace.due.add_permits(usize::try_from(due - *released).unwrap_or_default());
        *released = due;
        if due == self.total {
            // Wakes senders that would wait for a further message.
            pace.due.add_permits(Semaphore::MAX_PERMITS / 2);
            return None;
        }
        (!self.over.load(Relaxed)).then(|| self.begun + pace.after(due))
    }
}

impl Pace {
    /// When a message is due, counted from the beginning.
    fn after(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate as f64)
    }
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_messages_are_given_out_and_no_more() {
        let load = Load::begin(Amount::Messages(1000), None);
        let takers = [(); 4].map(|()| {
            let load = load.clone();
            thread::spawn(move || std::iter::from_fn(|| load.next_now()).count())
        });
        assert_eq!(takers.map(|taker| taker.join().unwrap()).iter().sum::<usize>(), 1000);
        assert!(load.next().await.is_none());
    }

    #[tokio::test]
    async fn with_a_rate_each_is_due_at_its_time_however_late_it_is_taken() {
        let load = Load::begin(Amount::Messages(20), Some(200));
        let mut due = vec![load.next().await.unwrap()];
        // By then all of them are due.
        tokio::time::sleep(Duration::from_millis(150)).await;
        while let Some(time) = load.next().await {
            due.push(time);
        }
        let after: Vec<_> = due.iter().map(|time| time.duration_since(due[0]).as_millis()).collect();
        assert_eq!(after, (0..20).map(|number| number * 5).collect::<Vec<_>>());
        // The number of messages ended the load, not the time.
        assert!(!load.over.load(Relaxed));
        let schedule = load.schedule().unwrap();
        assert!(schedule.late >= 19 && !schedule.kept, "{schedule:?}");
        assert_eq!(schedule.unsent, 0);
    }

    #[tokio::test]
    async fn a_schedule_that_caught_up_was_not_kept() {
        let load = Load::begin(Amount::Messages(40), Some(200));
        load.next().await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
        while load.next().await.is_some() {}
        let schedule = load.schedule().unwrap();
        assert!(!schedule.kept && schedule.behind >= Duration::from_millis(140), "{schedule:?}");
    }

    #[tokio::test]
    async fn messages_at_a_rate_take_as_long_as_the_rate_says() {
        let load = Load::begin(Amount::Duration(Duration::from_millis(250)), Some(20));
        let messages = std::iter::from_fn(|| Some(())).take(100);
        let mut sent = 0;
        for () in messages {
            match load.next().await {
                Some(_) => sent += 1,
                None => break,
            }
        }
        assert_eq!(sent, 5);
        assert!(load.elapsed() >= Duration::from_millis(250), "{:?}", load.elapsed());
    }

    #[tokio::test]
    async fn none_is_given_out_before_it_is_due() {
        let load = Load::begin(Amount::Messages(10), Some(1000));
        while let Some(due) = load.next().await {
            assert!(due <= Instant::now());
        }
        assert!(load.begun.elapsed() >= Duration::from_millis(9));
        assert_eq!(load.schedule().unwrap().unsent, 0);
    }

    #[tokio::test]
    async fn what_is_ended_gives_out_nothing_more() {
        for rate in [None, Some(1)] {
            let load = Load::begin(Amount::Duration(Duration::from_secs(1000)), rate);
            assert!(load.next().await.is_some());
            load.end();
            assert!(load.next().await.is_none());
        }
    }
}

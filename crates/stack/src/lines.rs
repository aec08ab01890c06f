//! Which calls have lines in the log: the first ones of each second.
//!
//! A line costs more than a small call. At full speed a server would take a third of its time
//! and more for lines that nobody reads.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::time::Instant;
use tracing::{Level, enabled};

/// How many calls of a method have lines in a second.
const EACH_SECOND: u32 = 100;

/// The lines in the log for the calls of one method.
#[derive(Debug)]
pub struct Lines {
    pub(crate) method: String,
    since: Instant,
    /// The seconds since then, and below them, in 32 bits, the calls of the last one.
    calls: AtomicU64,
}

impl Lines {
    /// The lines for the calls of `method`, as the log calls it.
    pub fn of(method: &str) -> Arc<Self> {
        Arc::new(Self { method: method.to_owned(), since: Instant::now(), calls: AtomicU64::new(0) })
    }

    /// Whether a call of this moment has lines: the first 100 of each second have. At debug
    /// level every call has. Logs once a second that there are more, and later how many more.
    pub fn admit(&self, now: Instant) -> bool {
        if !enabled!(Level::INFO) || enabled!(Level::DEBUG) {
            return true;
        }
        let second = now.duration_since(self.since).as_secs() as u32;
        let next = |calls| {
            let (last, calls) = apart(calls);
            let calls = if last == second { calls.saturating_add(1) } else { 1 };
            u64::from(second) << 32 | u64::from(calls)
        };
        let (Ok(before) | Err(before)) = self.calls.fetch_update(Relaxed, Relaxed, |calls| Some(next(calls)));
        let ((last, calls), method) = (apart(before), &self.method);
        let more = calls.saturating_sub(EACH_SECOND);
        if last != second {
            if more > 0 {
                tracing::info!(method, "{more} more calls in that second, without lines");
            }
            return true;
        }
        if calls == EACH_SECOND {
            tracing::info!(method, "over {EACH_SECOND} calls in a second; RUST_LOG=debug has lines for all");
        }
        calls < EACH_SECOND
    }
}

fn apart(calls: u64) -> (u32, u32) {
    ((calls >> 32) as u32, calls as u32)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing_subscriber::{filter::LevelFilter, fmt};

    use super::*;

    fn admitted(level: LevelFilter, times: &[u64]) -> usize {
        let lines = Lines::of("/a.B/C");
        let log = fmt().with_max_level(level).with_writer(std::io::sink).finish();
        tracing::subscriber::with_default(log, || {
            let begins = times.iter().map(|second| lines.since + Duration::from_secs(*second));
            begins.filter(|now| lines.admit(*now)).count()
        })
    }

    #[test]
    fn the_first_calls_of_each_second_have_lines() {
        let seconds = [[0; 150], [7; 150], [8; 150]].concat();
        assert_eq!(admitted(LevelFilter::INFO, &seconds), 300);
        assert_eq!(admitted(LevelFilter::INFO, &seconds[..60]), 60);
    }

    #[test]
    fn at_debug_level_all_calls_have_lines() {
        assert_eq!(admitted(LevelFilter::DEBUG, &[0; 150]), 150);
    }
}

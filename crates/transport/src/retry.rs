//! When a unary call is made again, and after which pause: gRFC A6.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// More than this no policy may allow.
pub const MOST_ATTEMPTS: u32 = 5;

/// What the server says of another attempt, in `grpc-retry-pushback-ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushback {
    /// After this pause.
    After(Duration),
    /// There is to be none.
    Never,
}

impl Pushback {
    /// What is no number of milliseconds, or is there twice, means that there is
    /// to be no other attempt.
    pub fn of(metadata: &MetadataMap) -> Option<Self> {
        let mut values = metadata.get_all("grpc-retry-pushback-ms").iter();
        let first = values.next()?;
        let milliseconds = first.to_str().ok().and_then(|text| text.parse::<u32>().ok());
        Some(match milliseconds.filter(|_| values.next().is_none()) {
            Some(milliseconds) => Self::After(Duration::from_millis(milliseconds.into())),
            None => Self::Never,
        })
    }
}

/// Keeps a client from making things worse for servers that fail: when more
/// than a few calls fail, each is made once.
#[derive(Debug)]
pub struct Throttle {
    /// In tenths.
    tokens: u32,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { tokens: Self::FULL }
    }
}

impl Throttle {
    const FULL: u32 = 100;
    const A_FAILURE_COSTS: u32 = 10;
    const A_SUCCESS_GIVES: u32 = 1;

    /// A call ended well.
    pub fn succeeded(&mut self) {
        self.tokens = (self.tokens + Self::A_SUCCESS_GIVES).min(Self::FULL);
    }

    /// A call failed, by which others may fail as well.
    pub fn failed(&mut self) {
        self.tokens = self.tokens.saturating_sub(Self::A_FAILURE_COSTS);
    }

    /// Whether a call may be made again.
    pub fn allows_another(&self) -> bool {
        self.tokens > Self::FULL / 2
    }
}

/// The pauses between attempts: any length up to a bound that doubles. Of a
/// thousand clients that lost the same server no two come back together.
#[derive(Debug, Default)]
pub struct Backoff {
    pauses: u32,
}

impl Backoff {
    /// The next pause, and not less than was asked for, unless the server says
    /// how long it has to be: then the bound begins anew.
    pub fn pause(&mut self, pushback: Option<Pushback>, asked: Option<Duration>) -> Duration {
        const FIRST: Duration = Duration::from_millis(100);
        const LONGEST: Duration = Duration::from_secs(2);
        if let Some(Pushback::After(pause)) = pushback {
            self.pauses = 0;
            return pause;
        }
        let bound = FIRST.saturating_mul(1 << self.pauses.min(10)).min(LONGEST);
        self.pauses = self.pauses.saturating_add(1);
        bound.mul_f64(fastrand::f64()).max(asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let nth = |n: u32| {
            let mut backoff = Backoff { pauses: n - 1 };
            backoff.pause(None, None)
        };
        let longest = |n| (0..1_000).map(|_| nth(n)).max().unwrap();
        assert!(longest(1) <= Duration::from_millis(100) && longest(1) > Duration::from_millis(80));
        assert!(longest(3) <= Duration::from_millis(400) && longest(3) > Duration::from_millis(320));
        assert!(longest(u32::MAX) <= Duration::from_secs(2) && longest(99) > Duration::from_millis(1_600));
        let distinct: std::collections::HashSet<_> = (0..100).map(|_| nth(5)).collect();
        assert!(distinct.len() > 90);
    }

    #[test]
    fn a_pause_that_the_server_chose_is_kept_and_the_bound_begins_anew() {
        let mut backoff = Backoff { pauses: 9 };
        let chosen = Duration::from_millis(12_345);
        assert_eq!(backoff.pause(Some(Pushback::After(chosen)), Some(2 * chosen)), chosen);
        assert!(backoff.pause(None, None) <= Duration::from_millis(100));
        assert_eq!(backoff.pauses, 1);
        assert_eq!(backoff.pause(None, Some(chosen)), chosen, "at least what was asked for");
    }

    #[test]
    fn what_is_no_pause_means_that_there_is_to_be_no_other_attempt() {
        let pushback = |values: &[&str]| {
            let mut metadata = MetadataMap::new();
            for value in values {
                metadata.append("grpc-retry-pushback-ms", value.parse().unwrap());
            }
            Pushback::of(&metadata)
        };
        assert_eq!(pushback(&[]), None);
        assert_eq!(pushback(&["0"]), Some(Pushback::After(Duration::ZERO)));
        assert_eq!(pushback(&["1500"]), Some(Pushback::After(Duration::from_millis(1500))));
        for never in [&["-1"][..], &["soon"], &[""], &["1.5"], &["99999999999"], &["1", "1"]] {
            assert_eq!(pushback(never), Some(Pushback::Never), "{never:?}");
        }
    }

    #[test]
    fn one_call_may_use_all_its_attempts_and_the_next_one_has_to_earn_its_own() {
        let mut throttle = Throttle::default();
        for _ in 1..MOST_ATTEMPTS {
            throttle.failed();
            assert!(throttle.allows_another());
        }
        throttle.failed();
        assert!(!throttle.allows_another(), "half of the tokens are gone");
        throttle.succeeded();
        assert!(throttle.allows_another());
        (0..100).for_each(|_| throttle.failed());
        (0..50).for_each(|_| throttle.succeeded());
        assert!(!throttle.allows_another(), "a success weighs a tenth of a failure");
        throttle.succeeded();
        assert!(throttle.allows_another());
        (0..1_000).for_each(|_| throttle.succeeded());
        (0..5).for_each(|_| throttle.failed());
        assert!(!throttle.allows_another(), "there are never more tokens than at the beginning");
    }
}

//! Counts primes by a segmented sieve: memory for one segment and for the primes
//! up to the root, whatever the bound.

use std::ops::ControlFlow;

/// Counting below this takes some minutes of one core.
pub(crate) const HIGHEST: u64 = 100_000_000_000;

/// How many odd numbers are sieved at a time, a byte for each: fits into the
/// second cache of most processors, and takes less than a millisecond.
const SEGMENT: usize = 256 << 10;

/// How many primes there are below `below`.
///
/// After each segment `progress` gets how many numbers are done, and may stop
/// the counting: then there is no result.
pub(crate) fn count_below(below: u64, mut progress: impl FnMut(u64) -> ControlFlow<()>) -> Option<u64> {
    if below <= 2 {
        return Some(0);
    }
    // Only odd numbers are sieved: number 2i + 1 has the index i.
    let odds = below / 2;
    let mut sieving = odd_primes_up_to(below.isqrt()).map(Sieving::new).collect::<Vec<_>>();
    let mut is_prime = vec![true; SEGMENT];
    // 1, which is no prime, is never struck out: it is counted in place of 2,
    // which is no odd number.
    let mut count = 0;
    let mut low = 0;
    while low < odds {
        let length = SEGMENT.min(usize::try_from(odds - low).unwrap_or(SEGMENT));
        let segment = &mut is_prime[..length];
        segment.fill(true);
        // Primes whose square comes later have nothing to strike out yet, and
        // neither have those after them.
        let high = low + length as u64;
        for prime in sieving.iter_mut().take_while(|prime| prime.first < high) {
            prime.strike_out(segment);
        }
        count += segment.iter().filter(|is_prime| **is_prime).count() as u64;
        low = high;
        if progress(if low == odds { below } else { 2 * low }).is_break() {
            return None;
        }
    }
    Some(count)
}

/// An odd prime and where it goes on.
struct Sieving {
    prime: usize,
    /// The index of its square: smaller multiples have smaller factors.
    first: u64,
    /// Its next multiple, counted from the beginning of the next segment; of
    /// the one with its square, before that.
    next: usize,
}

impl Sieving {
    fn new(prime: u32) -> Self {
        let first = u64::from(prime).pow(2) / 2;
        Self { prime: prime as usize, first, next: (first % SEGMENT as u64) as usize }
    }

    fn strike_out(&mut self, segment: &mut [bool]) {
        while let Some(is_prime) = segment.get_mut(self.next) {
            *is_prime = false;
            self.next += self.prime;
        }
        self.next -= segment.len();
    }
}

/// By a plain sieve.
fn odd_primes_up_to(root: u64) -> impl Iterator<Item = u32> {
    let mut is_prime = vec![true; root as usize + 1];
    let mut number = 3;
    while number * number < is_prime.len() {
        if is_prime[number] {
            (number * number..is_prime.len())
                .step_by(2 * number)
                .for_each(|multiple| is_prime[multiple] = false);
        }
        number += 2;
    }
    (3..).zip(is_prime.into_iter().skip(3)).step_by(2).filter(|(_, is_prime)| *is_prime).map(|(n, _)| n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(below: u64) -> u64 {
        count_below(below, |_| ControlFlow::Continue(())).unwrap()
    }

    #[test]
    fn the_counts_are_those_of_the_tables() {
        let tables = [(10, 4), (100, 25), (1_000, 168), (10_000, 1_229), (100_000, 9_592)];
        for (below, primes) in tables.into_iter().chain([(1_000_000, 78_498), (10_000_000, 664_579)]) {
            assert_eq!(counted(below), primes, "below {below}");
        }
    }

    #[test]
    fn each_bound_counts_what_trial_division_does() {
        let is_prime = |n: u64| n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
        let mut primes = 0;
        for below in 0..3_000 {
            assert_eq!(counted(below), primes, "below {below}");
            primes += u64::from(is_prime(below));
        }
    }

    #[test]
    fn nothing_is_counted_twice_or_left_out_where_segments_meet() {
        let border = 2 * SEGMENT as u64;
        let is_prime = |n: u64| (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
        for segments in 1..4 {
            let mut primes = counted(segments * border - 25);
            for below in segments * border - 25..segments * border + 25 {
                assert_eq!(counted(below), primes, "below {below}");
                primes += u64::from(is_prime(below));
            }
        }
    }

    #[test]
    fn progress_ends_at_the_bound_and_can_stop_the_counting() {
        let mut seen = Vec::new();
        count_below(3_000_001, |done| {
            seen.push(done);
            ControlFlow::Continue(())
        });
        assert!(seen.is_sorted() && seen.len() > 3, "{seen:?}");
        assert_eq!(seen.last(), Some(&3_000_001));
        let mut segments = 0;
        let stopped = count_below(HIGHEST, |_| {
            segments += 1;
            if segments == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((stopped, segments), (None, 3));
    }

    #[test]
    #[ignore = "a second, without optimisation several"]
    fn a_thousand_million() {
        assert_eq!(counted(1_000_000_000), 50_847_534);
    }
}

//! What a device has measured: statistics over any number of readings, in memory
//! that does not grow with their number.

mod ranks;

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use self::ranks::Ranks;

/// A value that a device measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// When.
    pub time: SystemTime,
    /// In the unit of the device.
    pub value: f64,
}

/// Why a reading does not count.
#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("device {0}")]
    Device(#[from] super::names::BadName),
    #[error("time is missing or outside the years 1 to 9999")]
    Time,
    #[error("value {0} is not a finite number")]
    NotFinite(f64),
    #[error("too many devices: a call may have {0}")]
    TooManyDevices(usize),
}

impl Reading {
    /// The reading, if it can be counted.
    pub fn check(self) -> Result<Self, Refusal> {
        if self.value.is_finite() { Ok(self) } else { Err(Refusal::NotFinite(self.value)) }
    }
}

/// Of readings, without the readings. Two of them make one over all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    #[serde(with = "nanoseconds")]
    first: SystemTime,
    #[serde(with = "nanoseconds")]
    last: SystemTime,
    /// Mean and sum of squared distances from it, by Welford's method: the
    /// textbook difference of sums loses every digit when values are large and
    /// close together. The distances are in [units](Self::unit).
    mean: f64,
    squares: f64,
    /// Has the count and the extremes too. The values that it has not sorted in
    /// yet are not stored with it: [`flushed`](Self::flushed) goes first.
    ranks: Ranks,
}

/// What all readings of a device come to.
#[allow(missing_docs, reason = "the names say it")]
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    pub count: u64,
    pub first: SystemTime,
    pub last: SystemTime,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub standard_deviation: f64,
    pub percentiles: [f64; 3],
}

impl Totals {
    pub(crate) fn of(Reading { time, value }: Reading) -> Self {
        Self { first: time, last: time, mean: value, squares: 0.0, ranks: Ranks::of(value) }
    }

    /// The value must be finite.
    pub(crate) fn add(&mut self, Reading { time, value }: Reading) {
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        let before = self.unit();
        self.ranks.add(value);
        let (unit, count) = (self.unit(), self.ranks.count as f64);
        let distance = value / unit - self.mean / unit;
        // Divided first: the distance of two finite numbers need not be finite.
        self.mean += value / count - self.mean / count;
        self.squares = converted(self.squares, before, unit) + distance * (value / unit - self.mean / unit);
    }

    pub(crate) fn flushed(mut self) -> Self {
        self.ranks.flush();
        self
    }

    /// Both must be flushed.
    pub(crate) fn and(self, other: &Self) -> Self {
        let (here, there) = (self.ranks.count as f64, other.ranks.count as f64);
        let (weight, other_weight) = (here / (here + there), there / (here + there));
        let mut all = Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            // Rounding must not carry it past the largest number.
            mean: (self.mean * weight + other.mean * other_weight).clamp(f64::MIN, f64::MAX),
            squares: 0.0,
            ranks: self.ranks.clone().and(&other.ranks),
        };
        let unit = all.unit();
        let distance = other.mean / unit - self.mean / unit;
        let [squares, others] = [&self, other].map(|part| converted(part.squares, part.unit(), unit));
        all.squares = squares + others + distance * distance * here * other_weight;
        all
    }

    /// Must be flushed.
    pub(crate) fn statistics(&self) -> Statistics {
        let Ranks { count, min, max, .. } = self.ranks;
        // The deviation of finite numbers may be larger than the largest of them.
        let deviation = (self.squares / (count.max(2) - 1) as f64).sqrt() * self.unit();
        Statistics {
            count,
            first: self.first,
            last: self.last,
            min,
            max,
            mean: self.mean,
            standard_deviation: deviation.min(f64::MAX),
            percentiles: [50, 95, 99].map(|percent| self.ranks.percentile(percent)),
        }
    }

    /// In what distances are measured: where their squares would not be finite, in
    /// something large. A power of two rounds nothing.
    fn unit(&self) -> f64 {
        let largest = self.ranks.max.max(-self.ranks.min);
        if largest > 2f64.powi(450) { 2f64.powi(576) } else { 1.0 }
    }
}

/// Squares of distances in another unit.
fn converted(squares: f64, from: f64, to: f64) -> f64 {
    // Twice: the square of the quotient is no number.
    squares * (from / to) * (from / to)
}

/// A time as nanoseconds since 1970, before it too: serde's own form of a
/// [`SystemTime`] knows no earlier ones.
mod nanoseconds {
    use std::time::{Duration, SystemTime};

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    const SECOND: u128 = 1_000_000_000;

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        let (before, distance) = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => (false, after),
            Err(before) => (true, before.duration()),
        };
        // The distance has fewer than 94 bits.
        let nanoseconds = distance.as_nanos() as i128;
        (if before { -nanoseconds } else { nanoseconds }).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let nanoseconds = i128::deserialize(from)?;
        let distance = nanoseconds.unsigned_abs();
        let seconds = u64::try_from(distance / SECOND).map_err(D::Error::custom)?;
        let distance = Duration::new(seconds, (distance % SECOND) as u32);
        let time = match nanoseconds < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(distance),
            false => SystemTime::UNIX_EPOCH.checked_add(distance),
        };
        time.ok_or_else(|| D::Error::custom("a time that no clock shows"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{decode, encode};

    fn reading(value: f64) -> Reading {
        Reading { time: SystemTime::UNIX_EPOCH + Duration::from_secs(value.abs().min(1e9) as u64), value }
    }

    fn totals(values: impl IntoIterator<Item = f64>) -> Totals {
        let mut values = values.into_iter();
        let mut totals = Totals::of(reading(values.next().unwrap()));
        values.for_each(|value| totals.add(reading(value)));
        totals.flushed()
    }

    /// Each part as it is stored, one after the other.
    fn in_parts(values: &[f64], part: usize) -> Totals {
        let parts = values.chunks(part).map(|part| totals(part.iter().copied()));
        let parts = parts.map(|part| decode::<Totals>("totals", &encode(&part)).unwrap());
        parts.reduce(|all, part| all.and(&part)).unwrap()
    }

    #[test]
    fn statistics_of_a_few_readings_are_exact() {
        let one = totals([-1.0]).statistics();
        assert_eq!((one.count, one.standard_deviation), (1, 0.0));
        assert_eq!((one.min, one.max, one.mean, one.percentiles), (-1.0, -1.0, -1.0, [-1.0; 3]));
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        for part in 1..=values.len() {
            let all = in_parts(&values, part).statistics();
            assert_eq!((all.count, all.min, all.max, all.percentiles[0]), (8, 2.0, 9.0, 4.5));
            assert!((all.mean - 5.0).abs() < 1e-12);
            assert!((all.standard_deviation - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
            assert_eq!(all.last.duration_since(all.first).unwrap(), Duration::from_secs(7));
        }
    }

    #[test]
    fn percentiles_of_many_readings_are_close_in_rank_in_one_piece_and_in_many() {
        // Every value from 0 to 99,999 once, out of order.
        let values: Vec<_> = (0..100_000u32).map(|n| f64::from(n.wrapping_mul(7919) % 100_000)).collect();
        for part in [100_000, 1_000, 10, 1] {
            let all = in_parts(&values, part).statistics();
            for (got, want) in all.percentiles.into_iter().zip([50_000.0, 95_000.0, 99_000.0]) {
                assert!((got - want).abs() < 500.0, "{got} for {want} in parts of {part}");
            }
            assert!((all.mean - 49_999.5).abs() < 1e-6);
        }
    }

    #[test]
    fn a_small_deviation_around_a_large_mean_survives() {
        let values: Vec<_> = (0..1000).map(|n| 1e9 + f64::from(n % 2)).collect();
        for part in [1_000, 7] {
            let all = in_parts(&values, part).statistics();
            assert!((all.standard_deviation - 0.50025).abs() < 1e-4, "{}", all.standard_deviation);
        }
    }

    #[test]
    fn values_at_the_edge_of_what_a_float_can_hold_do_no_harm() {
        let edges = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, -0.0, 1e308];
        let values: Vec<_> = (0..10_000).map(|n| edges[n % 5]).collect();
        for part in [10_000, 64, 1] {
            let all = in_parts(&values, part).statistics();
            assert_eq!((all.count, all.min, all.max), (10_000, f64::MIN, f64::MAX));
            assert!(all.mean.is_finite(), "{}", all.mean);
            assert!(all.standard_deviation.is_finite(), "{}", all.standard_deviation);
        }
        let far = [1e160, 2e160, 3e160];
        let small = [1.0, 2e160, 1e-200, 3e160, 1e160];
        for part in 1..=3 {
            let deviation = in_parts(&far, part).statistics().standard_deviation;
            assert!((deviation / 1e160 - 1.0).abs() < 1e-12, "{deviation}");
            let deviation = in_parts(&small, part).statistics().standard_deviation;
            assert!((deviation / 1.7f64.sqrt() / 1e160 - 1.0).abs() < 1e-12, "{deviation}");
        }
        let largest = in_parts(&[f64::MAX; 100], 3).statistics();
        assert_eq!(largest.max, f64::MAX);
        assert!(largest.mean.is_finite());
    }

    #[test]
    fn times_of_any_year_are_stored_to_the_nanosecond() {
        for (seconds, nanos) in [(0, 0), (1, 1), (62_135_596_800, 999_999_999), (253_402_300_799, 5)] {
            let distance = Duration::new(seconds, nanos);
            for time in [SystemTime::UNIX_EPOCH + distance, SystemTime::UNIX_EPOCH - distance] {
                let totals = Totals::of(Reading { time, value: 1.0 }).flushed();
                assert_eq!(decode("totals", &encode(&totals)), Ok(totals));
            }
        }
    }

    #[test]
    fn what_is_stored_has_a_bounded_size() {
        let many = totals((0..1_000_000).map(|n| f64::from(n) * 1.1));
        assert!(encode(&many).len() < 6144, "{}", encode(&many).len());
    }
}

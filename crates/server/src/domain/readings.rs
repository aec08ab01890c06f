//! Statistics over the readings of devices, in memory that does not grow with
//! the number of readings.

use std::{collections::BTreeMap, time::SystemTime};

use tdigest::TDigest;

/// How many devices one collection can have: what bounds its memory, at about
/// 6 KiB each.
pub(crate) const MAX_DEVICES: usize = 10_000;
/// How many refused readings are kept with their reason.
const LISTED_REFUSALS: usize = 100;
/// Up to this many readings of a device the percentiles are exact.
const CENTROIDS: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub(crate) device: String,
    pub(crate) time: SystemTime,
    pub(crate) value: f64,
}

/// Why a reading does not count.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("device {0}")]
    Device(#[from] super::names::BadName),
    #[error("time is missing or outside the years 1 to 9999")]
    Time,
    #[error("value {0} is not a finite number")]
    NotFinite(f64),
    #[error("one device too many: a call may have {MAX_DEVICES}")]
    TooManyDevices,
}

/// All readings of one call.
#[derive(Debug, Default)]
pub(crate) struct Collection {
    pub(crate) count: u64,
    pub(crate) refused_count: u64,
    /// The first ones: the line that the client gave, and the reason.
    pub(crate) refused: Vec<(u64, Refusal)>,
    devices: BTreeMap<String, Device>,
}

#[derive(Debug)]
struct Device {
    first: SystemTime,
    last: SystemTime,
    /// Mean and sum of squared distances from it, by Welford's method: the
    /// textbook difference of sums loses every digit when values are large and
    /// close together.
    mean: f64,
    squares: f64,
    digest: TDigest,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statistics {
    pub(crate) device: String,
    pub(crate) count: u64,
    pub(crate) first: SystemTime,
    pub(crate) last: SystemTime,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) mean: f64,
    pub(crate) standard_deviation: f64,
    pub(crate) percentiles: [f64; 3],
}

impl Collection {
    /// Counts a reading, or notes why it does not count.
    pub(crate) fn record(&mut self, line: u64, reading: Result<Reading, Refusal>) {
        match reading.and_then(|reading| self.accept(reading)) {
            Ok(()) => self.count += 1,
            Err(reason) => {
                self.refused_count += 1;
                if self.refused.len() < LISTED_REFUSALS {
                    self.refused.push((line, reason));
                }
            }
        }
    }

    fn accept(&mut self, Reading { device, time, value }: Reading) -> Result<(), Refusal> {
        if !value.is_finite() {
            return Err(Refusal::NotFinite(value));
        }
        if let Some(device) = self.devices.get_mut(&device) {
            device.add(time, value);
            return Ok(());
        }
        super::names::check(&device)?;
        if self.devices.len() == MAX_DEVICES {
            return Err(Refusal::TooManyDevices);
        }
        let mut first = Device {
            first: time,
            last: time,
            mean: 0.0,
            squares: 0.0,
            digest: TDigest::new_with_size(CENTROIDS),
        };
        first.add(time, value);
        self.devices.insert(device, first);
        Ok(())
    }

    /// In the order of the devices' names.
    pub(crate) fn statistics(self) -> Vec<Statistics> {
        self.devices.into_iter().map(|(name, device)| device.statistics(name)).collect()
    }
}

impl Device {
    fn add(&mut self, time: SystemTime, value: f64) {
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        self.digest.push(value);
        let count = self.digest.count();
        let distance = value - self.mean;
        // Divided first: the distance of two finite numbers need not be finite.
        self.mean += value / count - self.mean / count;
        self.squares += distance * (value - self.mean);
    }

    fn statistics(mut self, device: String) -> Statistics {
        self.digest.flush();
        let count = self.digest.count();
        let percentile = |q| self.digest.estimate_quantile(q).unwrap_or(f64::NAN);
        Statistics {
            device,
            count: count as u64,
            first: self.first,
            last: self.last,
            min: self.digest.min().unwrap_or(f64::NAN),
            max: self.digest.max().unwrap_or(f64::NAN),
            mean: self.mean,
            standard_deviation: if count > 1.0 { (self.squares / (count - 1.0)).sqrt() } else { 0.0 },
            percentiles: [0.50, 0.95, 0.99].map(percentile),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reading(device: &str, value: f64) -> Result<Reading, Refusal> {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(value.abs() as u64);
        Ok(Reading { device: device.into(), time, value })
    }

    #[test]
    fn statistics_of_a_few_readings_are_exact() {
        let mut collection = Collection::default();
        for value in [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0] {
            collection.record(1, reading("b", value));
        }
        collection.record(1, reading("a", -1.0));
        assert_eq!(collection.count, 9);
        let [a, b] = collection.statistics().try_into().unwrap();
        assert_eq!((a.device.as_str(), a.count, a.standard_deviation), ("a", 1, 0.0));
        assert_eq!((a.min, a.max, a.mean, a.percentiles), (-1.0, -1.0, -1.0, [-1.0; 3]));
        assert_eq!((b.min, b.max, b.mean, b.percentiles[0]), (2.0, 9.0, 5.0, 4.5));
        assert!((b.standard_deviation - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(b.last.duration_since(b.first).unwrap(), Duration::from_secs(7));
    }

    #[test]
    fn percentiles_of_many_readings_are_close_in_rank() {
        let mut collection = Collection::default();
        for n in 0..100_000u32 {
            // Every value from 0 to 99,999 once, out of order.
            collection.record(1, reading("a", f64::from(n.wrapping_mul(7919) % 100_000)));
        }
        let [a] = collection.statistics().try_into().unwrap();
        for (got, want) in a.percentiles.into_iter().zip([50_000.0, 95_000.0, 99_000.0]) {
            assert!((got - want).abs() < 500.0, "{got} for {want}");
        }
        assert!((a.mean - 49_999.5).abs() < 1e-6);
    }

    #[test]
    fn a_small_deviation_around_a_large_mean_survives() {
        let mut collection = Collection::default();
        for n in 0..1000 {
            collection.record(1, reading("a", 1e9 + f64::from(n % 2)));
        }
        let [a] = collection.statistics().try_into().unwrap();
        assert!((a.standard_deviation - 0.50025).abs() < 1e-4, "{}", a.standard_deviation);
    }

    #[test]
    fn values_at_the_edge_of_what_a_float_can_hold_do_no_harm() {
        let mut collection = Collection::default();
        for n in 0..10_000 {
            let value = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, -0.0, 1e308][n % 5];
            let time = SystemTime::UNIX_EPOCH;
            collection.record(1, Ok(Reading { device: "a".into(), time, value }));
        }
        let [a] = collection.statistics().try_into().unwrap();
        assert_eq!((a.count, a.min, a.max), (10_000, f64::MIN, f64::MAX));
        assert!(a.mean.is_finite(), "{}", a.mean);
        assert!(!a.standard_deviation.is_nan(), "{}", a.standard_deviation);
    }

    #[test]
    fn what_is_refused_is_named_and_the_rest_counts() {
        let mut collection = Collection::default();
        collection.record(2, reading("a", f64::NAN));
        collection.record(3, reading("", 1.0));
        collection.record(4, Err(Refusal::Time));
        collection.record(5, reading("a", 1.0));
        assert_eq!((collection.count, collection.refused_count), (1, 3));
        let lines: Vec<_> = collection.refused.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 4]);
    }

    #[test]
    fn devices_and_listed_refusals_are_bounded() {
        let mut collection = Collection::default();
        for n in 0..MAX_DEVICES + 200 {
            collection.record(n as u64, reading(&n.to_string(), 1.0));
        }
        collection.record(0, reading("7", 1.0));
        assert_eq!(collection.count, MAX_DEVICES as u64 + 1);
        assert_eq!((collection.refused_count, collection.refused.len()), (200, LISTED_REFUSALS));
    }
}

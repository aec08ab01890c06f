//! Values by their rank, in memory that does not grow with their number.

use std::mem;

use serde::{Deserialize, Serialize};

/// Values that differ share a point only while it stands for at most one in so
/// many of all values. Equal values share one however many they are.
const POINTS: u64 = 200;
/// How many values wait to be sorted in.
const WAITING: usize = 64;

/// Stands for `weight` values, of which it is the one in the middle: a mean would be
/// off where a few are far away.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    value: f64,
    weight: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub(super) struct Ranks {
    /// In the order of their values.
    points: Vec<Point>,
    waiting: Vec<f64>,
    pub(super) count: u64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Ranks {
    pub(super) fn of(value: f64) -> Self {
        Self { points: Vec::new(), waiting: vec![value], count: 1, min: value, max: value }
    }

    /// The value must be finite.
    pub(super) fn add(&mut self, value: f64) {
        self.waiting.push(value);
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if self.waiting.len() == WAITING {
            self.flush();
        }
    }

    /// Sorts in what waits.
    pub(super) fn flush(&mut self) {
        self.points.extend(self.waiting.drain(..).map(|value| Point { value, weight: 1 }));
        self.compress();
    }

    /// Both must be flushed.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.points.extend_from_slice(&other.points);
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.compress();
        self
    }

    fn compress(&mut self) {
        let most = self.count / POINTS;
        let mut points = mem::take(&mut self.points);
        points.sort_by(|one, other| one.value.total_cmp(&other.value));
        let mut rest = points.as_slice();
        while let Some(first) = rest.first() {
            let mut weight = 0;
            let is_one_of_them = |point: &&Point| {
                let fits = point.value == first.value || weight + point.weight <= most;
                weight += if fits { point.weight } else { 0 };
                fits
            };
            let group;
            (group, rest) = rest.split_at(rest.iter().take_while(is_one_of_them).count());
            let value = at_rank(group, weight.div_ceil(2)).unwrap_or(first.value);
            self.points.push(Point { value, weight });
        }
        // There are many devices: no room to spare.
        self.points.shrink_to_fit();
    }

    /// As spreadsheets and NumPy have it: of values in order the one that is so many
    /// hundredths of the way from the first to the last, or between two that are. Must
    /// be flushed.
    pub(super) fn percentile(&self, percent: u64) -> f64 {
        let hundredths = u128::from(self.count - 1) * u128::from(percent);
        let rank = (hundredths / 100) as u64 + 1;
        let share = (hundredths % 100) as f64 / 100.0;
        let value = |rank| at_rank(&self.points, rank).unwrap_or(self.max);
        match (value(rank), value(rank + 1)) {
            // Rounding must not make two of one.
            (low, high) if low == high => low,
            (low, high) => low * (1.0 - share) + high * share,
        }
    }
}

/// The value that is number `rank` of those that the points stand for, from 1.
fn at_rank(points: &[Point], rank: u64) -> Option<f64> {
    let mut through = 0;
    let point = points.iter().find(|point| {
        through += point.weight;
        through >= rank
    });
    point.map(|point| point.value)
}

/// Value and weight of each point; then a sum that nobody reads, count, maximum and
/// minimum. The form that stores have of the t-digest which was here before.
type Stored = (Vec<(f64, f64)>, f64, f64, Option<f64>, Option<f64>);

impl From<Ranks> for Stored {
    fn from(ranks: Ranks) -> Self {
        let points = ranks.points.iter().map(|point| (point.value, point.weight as f64));
        (points.collect(), 0.0, ranks.count as f64, Some(ranks.max), Some(ranks.min))
    }
}

impl TryFrom<Stored> for Ranks {
    type Error = &'static str;

    fn try_from((points, _, count, max, min): Stored) -> Result<Self, Self::Error> {
        let is_point = |(value, weight): &(f64, f64)| value.is_finite() && *weight >= 1.0;
        match (max, min) {
            (Some(max), Some(min)) if max.is_finite() && min.is_finite() && points.iter().all(is_point) => {
                let points = points.into_iter();
                let points = points.map(|(value, weight)| Point { value, weight: weight as u64 }).collect();
                Ok(Self { points, waiting: Vec::new(), count: count as u64, min, max })
            }
            _ => Err("these are no values by rank"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(values: &[f64]) -> Ranks {
        let mut ranks = Ranks::of(values[0]);
        values[1..].iter().for_each(|value| ranks.add(*value));
        ranks.flush();
        ranks
    }

    /// How far the rank of `got` is from `percent`, in percent of all values.
    fn error(sorted: &[f64], percent: u64, got: f64) -> f64 {
        let share = |rank: usize| rank as f64 * 100.0 / sorted.len() as f64;
        let below = share(sorted.partition_point(|value| *value < got));
        let through = share(sorted.partition_point(|value| *value <= got));
        let percent = percent as f64;
        (below - percent).max(percent - through).max(0.0)
    }

    /// One after the other, and in parts that are put together.
    fn worst(name: &str, values: &[f64]) {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        for part in [values.len(), 1_000, 7] {
            let all = values.chunks(part).map(ranks).reduce(|all, part| all.and(&part)).unwrap();
            assert!(all.points.len() <= 2 * POINTS as usize + 1, "{name}: {} points", all.points.len());
            for percent in [50, 95, 99] {
                let got = all.percentile(percent);
                let error = error(&sorted, percent, got);
                assert!(error <= 0.6, "{name} in parts of {part}: p{percent} is {got}, off by {error} %");
            }
        }
    }

    #[test]
    fn a_few_values_far_away_do_not_blur_the_many() {
        for zeros in [100, 10_000] {
            let mut values = vec![0.0; zeros];
            values.push(1e6);
            assert_eq!([50, 95, 99].map(|percent| ranks(&values).percentile(percent)), [0.0; 3]);
            values.rotate_right(1);
            assert_eq!([50, 95, 99].map(|percent| ranks(&values).percentile(percent)), [0.0; 3]);
        }
    }

    #[test]
    fn a_hundred_values_are_exact() {
        let values: Vec<_> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0, 50, 100].map(|p| ranks(&values).percentile(p)), [1.0, 50.5, 100.0]);
        let values: Vec<_> = (0..=100).rev().map(f64::from).collect();
        assert_eq!([1, 50, 95, 99].map(|p| ranks(&values).percentile(p)), [1.0, 50.0, 95.0, 99.0]);
        assert_eq!([0, 50, 99, 100].map(|p| ranks(&[-7.0]).percentile(p)), [-7.0; 4]);
    }

    #[test]
    fn ranks_are_close_whatever_the_values_are() {
        let mut random = fastrand::Rng::with_seed(17);
        let mut of = |value: &mut dyn FnMut(f64) -> f64| -> Vec<f64> {
            (0..20_000).map(|_| value(random.f64())).collect()
        };
        worst("even", &of(&mut |u| u));
        worst("exponential", &of(&mut |u| -(1.0 - u).ln()));
        worst("heavy tail", &of(&mut |u| (1.0 - u).powi(-3)));
        worst("whole numbers", &of(&mut |u| (u * 10.0).floor()));
        worst(
            "few between two",
            &of(&mut |u| {
                if u < 0.49 {
                    0.0
                } else if u < 0.51 {
                    5.0
                } else {
                    10.0
                }
            }),
        );
        worst("two clusters", &of(&mut |u| if u < 0.949 { u } else { 1e9 + u }));
        worst("ascending", &(0..20_000).map(f64::from).collect::<Vec<_>>());
        worst("descending", &(0..20_000).rev().map(f64::from).collect::<Vec<_>>());
    }
}

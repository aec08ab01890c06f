//! From values to places, and what is written along the way.

use crate::unit::Unit;

/// An axis: what it is of, in which unit, and how it is divided.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Axis {
    /// What is along it, such as `message size`.
    pub label: String,
    /// How its numbers are written.
    pub unit: Unit,
    /// How it is divided.
    pub scale: Scale,
}

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// In equal steps, from zero.
    #[default]
    Linear,
    /// In equal factors.
    Log,
}

/// An axis for the values that are there.
pub(crate) struct Range {
    from: f64,
    to: f64,
    scale: Scale,
    pub(crate) ticks: Vec<(f64, String)>,
}

/// About so many labels fit beside each other.
const TICKS: f64 = 7.0;
/// Nobody reads more.
const MOST_TICKS: usize = 40;

impl Axis {
    /// From the first to the last tick all values have a place.
    pub(crate) fn range(&self, values: impl Iterator<Item = f64>) -> Range {
        let mut ends: Option<(f64, f64)> = None;
        for value in values.filter(|value| drawable(*value, self.scale)) {
            let (low, high) = ends.unwrap_or((value, value));
            ends = Some((low.min(value), high.max(value)));
        }
        let ticks = match self.scale {
            Scale::Linear => {
                let (low, high) = ends.unwrap_or((0.0, 1.0));
                self.linear(low.min(0.0), high.max(0.0))
            }
            Scale::Log => {
                let (low, high) = ends.unwrap_or((1.0, 10.0));
                self.log(low, high)
            }
        };
        let ends = ticks.first().zip(ticks.last()).map(|(first, last)| (*first, *last));
        let (from, to) = ends.unwrap_or((0.0, 1.0));
        let ticks = ticks.into_iter().map(|value| (value, self.unit.text(value))).collect();
        Range { from, to, scale: self.scale, ticks }
    }

    fn linear(&self, low: f64, high: f64) -> Vec<f64> {
        let high = if high > low { high } else { low + 1.0 };
        let step = self.step((high / TICKS) - (low / TICKS));
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        (0..MOST_TICKS)
            .map(|index| first + index as f64)
            .take_while(|number| *number <= last)
            .map(|number| number * step)
            .collect()
    }

    /// The next round number.
    fn step(&self, least: f64) -> f64 {
        if self.unit.is_binary() {
            return 2f64.powf(least.log2().ceil());
        }
        let power = 10f64.powf(least.log10().floor());
        let round = [1.0, 2.0, 2.5, 5.0].into_iter().map(|digit| digit * power);
        round.into_iter().find(|step| *step >= least).unwrap_or(10.0 * power)
    }

    fn log(&self, low: f64, high: f64) -> Vec<f64> {
        let base: f64 = if self.unit.is_binary() { 2.0 } else { 10.0 };
        // A little room, as ten to the power of a logarithm is seldom exact.
        let power = |value: f64| value.ln() / base.ln();
        let (first, last) = ((power(low) + 1e-9).floor(), (power(high) - 1e-9).ceil());
        let last = if last > first { last } else { first + 1.0 };
        let between: &[f64] = match last - first {
            decades if base == 10.0 && self.unit != Unit::Percentile && decades <= 2.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let stride = ((last - first) / TICKS).ceil();
        let mut ticks = Vec::new();
        let mut at = first;
        while at < last && ticks.len() < MOST_TICKS {
            ticks.extend(between.iter().map(|digit| digit * base.powf(at)));
            at += stride;
        }
        ticks.push(base.powf(at));
        // What is below and above the values, apart from the nearest ones, is room for nothing.
        let start = ticks.iter().rposition(|tick| *tick <= low * (1.0 + 1e-9)).unwrap_or(0);
        let least = (start + 2).min(ticks.len());
        let end = ticks.iter().position(|tick| *tick >= high * (1.0 - 1e-9));
        ticks.truncate(end.map_or(ticks.len(), |end| (end + 1).max(least)));
        ticks.split_off(start)
    }
}

impl Range {
    /// Where a value is, from 0 to 1; none, if it has no place.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        if !drawable(value, self.scale) {
            return None;
        }
        let place = match self.scale {
            // Halved, as the width of what may be drawn may be more than a number can be.
            Scale::Linear => (value / 2.0 - self.from / 2.0) / (self.to / 2.0 - self.from / 2.0),
            Scale::Log => (value.ln() - self.from.ln()) / (self.to.ln() - self.from.ln()),
        };
        place.is_finite().then(|| place.clamp(0.0, 1.0))
    }

    /// Where bars begin.
    pub(crate) fn origin(&self) -> f64 {
        match self.scale {
            Scale::Linear => self.place(0.0).unwrap_or(0.0),
            Scale::Log => 0.0,
        }
    }
}

/// Far from where numbers end: what is larger, or finer, was never measured.
fn drawable(value: f64, scale: Scale) -> bool {
    let size = value.abs();
    let sane = size == 0.0 || (1e-100..1e100).contains(&size);
    sane && (scale == Scale::Linear || value > 0.0)
}

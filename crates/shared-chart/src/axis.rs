//! An axis: which values have a place on it, and which of them have a label.

use std::ops::Range;

use plotters::{
    coord::{
        ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
        types::RangedCoordf64,
    },
    prelude::{IntoLogRange as _, LogCoord},
};

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

impl Axis {
    /// An axis that has a place for all these values.
    pub(crate) fn over(&self, values: impl Iterator<Item = f64>) -> Coord {
        let values = values.filter(|value| self.scale.can_draw(*value));
        let ends = values.map(|value| (value, value)).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)));
        let range = match self.scale {
            Scale::Linear => 0.0..ends.map_or(1.0, |(_, high)| high).max(f64::MIN_POSITIVE),
            Scale::Log => {
                let (low, high) = ends.unwrap_or((1.0, 1.0));
                // As whole powers: a range without any would have no label.
                let power = |value: f64| value.log(self.unit.base());
                let first = (power(low) + 1e-9).floor();
                let last = (power(high) - 1e-9).ceil().max(first + 1.0);
                self.unit.base().powf(first)..self.unit.base().powf(last)
            }
        };
        Coord { unit: self.unit, scale: self.scale, range }
    }
}

impl Scale {
    /// Far from where numbers end: nobody measures what is larger, or finer.
    pub(crate) fn can_draw(self, value: f64) -> bool {
        (1e-100..1e100).contains(&value) || (value == 0.0 && self == Self::Linear)
    }
}

/// An [`Axis`] with its range, for plotters.
pub(crate) struct Coord {
    unit: Unit,
    scale: Scale,
    range: Range<f64>,
}

impl Coord {
    /// Where bars begin.
    pub(crate) fn origin(&self) -> f64 {
        self.range.start
    }
}

impl Ranged for Coord {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        match self.scale {
            Scale::Linear => RangedCoordf64::from(self.range()).map(value, limit),
            Scale::Log => LogCoord::from(self.range().log_scale()).map(value, limit),
        }
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let most = hint.bold_points();
        match self.scale {
            Scale::Linear => {
                // Round numbers of KiB, or of MiB, are none of bytes.
                let size = self.unit.prefix(self.range.end);
                let points = RangedCoordf64::from(0.0..self.range.end / size).key_points(most);
                points.into_iter().map(|point| point * size).collect()
            }
            Scale::Log => {
                // A little wider: the logarithm of a power is seldom a whole number.
                let range = self.range.start * (1.0 - 1e-9)..self.range.end * (1.0 + 1e-9);
                LogCoord::from(range.log_scale().base(self.unit.base())).key_points(most)
            }
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Coord {
    fn format_ext(&self, value: &f64) -> String {
        self.unit.text(*value)
    }
}

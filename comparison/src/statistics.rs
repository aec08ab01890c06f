//! Of several rounds, one figure.

use serde::{Deserialize, Serialize};

/// A median, and between what the rounds were.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let median = *sorted.get(sorted.len() / 2)?;
        Some(Self { median, least: *sorted.first()?, most: *sorted.last()? })
    }

    /// How many times the one is the other, round by round: what else the machine
    /// did in a round was done to both.
    pub(crate) fn ratio(these: &[f64], those: &[f64]) -> Option<Self> {
        Self::of(these.iter().zip(those).map(|(this, that)| this / that))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_that_of_each_round() {
        let ratio = Spread::ratio(&[10.0, 30.0, 20.0], &[10.0, 10.0, 5.0]).unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most), (3.0, 1.0, 4.0));
        assert!(Spread::ratio(&[], &[]).is_none());
    }
}

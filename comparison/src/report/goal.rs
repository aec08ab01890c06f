//! A goal: what is promised, what was measured, and whether that holds.

use serde::{Deserialize, Serialize};
use shared_chart::Unit;

use crate::statistics::Spread;

/// A row of the table of goals.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Goal {
    /// What notes and tables call it.
    pub(crate) key: String,
    pub(crate) work: String,
    pub(crate) against: String,
    pub(crate) bound: Bound,
    /// None, when the run was without it.
    pub(crate) measured: Option<Spread>,
    pub(crate) holds: Option<bool>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    /// Times what the other one does.
    AtLeast(f64),
    AtMost(f64),
    /// Bytes.
    BytesAtMost(f64),
    /// A part of the whole.
    ShareAtLeast(f64),
}

impl Bound {
    pub(crate) fn text(self, value: f64) -> String {
        match self {
            Self::AtLeast(_) | Self::AtMost(_) => Unit::Ratio.text(value),
            Self::BytesAtMost(_) => Unit::Bytes.text(value),
            Self::ShareAtLeast(_) => format!("{:.0} %", value * 100.0),
        }
    }

    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) | Self::ShareAtLeast(bound) => value >= bound,
            Self::AtMost(bound) | Self::BytesAtMost(bound) => value <= bound,
        }
    }

    pub(crate) fn value(self) -> f64 {
        let (Self::AtLeast(value)
        | Self::AtMost(value)
        | Self::BytesAtMost(value)
        | Self::ShareAtLeast(value)) = self;
        value
    }

    /// As in a table: `at least 1.2×`.
    pub(crate) fn words(self) -> String {
        let which = match self {
            Self::AtLeast(_) | Self::ShareAtLeast(_) => "at least",
            Self::AtMost(_) | Self::BytesAtMost(_) => "at most",
        };
        format!("{which} {}", self.text(self.value()))
    }
}

impl Goal {
    pub(crate) fn new(key: &str, work: &str, against: &str, bound: Bound, measured: Option<Spread>) -> Self {
        Self {
            key: key.to_owned(),
            work: work.to_owned(),
            against: against.to_owned(),
            bound,
            measured,
            holds: measured.map(|measured| bound.holds(measured.median)),
        }
    }

    /// `1.31×`, or that nobody has looked.
    pub(crate) fn measured(&self) -> String {
        self.measured.map_or_else(|| "not measured".to_owned(), |of| self.bound.text(of.median))
    }

    pub(crate) fn spread(&self) -> String {
        let text = |of: Spread| format!("{} to {}", self.bound.text(of.least), self.bound.text(of.most));
        self.measured.map_or_else(String::new, text)
    }

    pub(crate) const fn verdict(&self) -> &str {
        match self.holds {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        }
    }
}

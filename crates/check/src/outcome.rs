//! What a check found out.

use std::{fmt, time::Duration};

use transport::CallError;

use crate::wire_error::WireError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// It works, and somebody will stumble over it one day.
    Warn,
    Fail,
    /// Not looked at; the cause says why.
    Skip,
}

impl Verdict {
    pub(crate) const ALL: [Self; 4] = [Self::Pass, Self::Warn, Self::Fail, Self::Skip];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// A verdict with its reasons. What is no pass has a cause, and what fails or
/// warns has a remedy.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// What was measured.
    pub(crate) figure: String,
    pub(crate) cause: String,
    pub(crate) remedy: String,
    /// It may be so by chance, so the check asks again, this many times.
    pub(crate) again: usize,
}

impl Outcome {
    fn new(verdict: Verdict, figure: String, cause: String, remedy: String) -> Self {
        Self { verdict, figure, cause, remedy, again: 0 }
    }

    pub(crate) fn pass(figure: impl Into<String>) -> Self {
        Self::new(Verdict::Pass, figure.into(), String::new(), String::new())
    }

    pub(crate) fn fail(
        figure: impl Into<String>,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Verdict::Fail, figure.into(), cause.into(), remedy.into())
    }

    pub(crate) fn warn(
        figure: impl Into<String>,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Warn, ..Self::fail(figure, cause, remedy) }
    }

    /// A machine that is busy looks the same for a moment.
    pub(crate) fn unless_busy(self) -> Self {
        Self { again: 2, ..self }
    }

    pub(crate) fn skip(cause: impl Into<String>) -> Self {
        Self::new(Verdict::Skip, String::new(), cause.into(), String::new())
    }
}

/// What a check comes to: `?` on a call that was lost is its failure.
pub(crate) type Checked = Result<Outcome, Outcome>;

impl From<WireError> for Outcome {
    fn from(lost: WireError) -> Self {
        let (cause, remedy) = lost.advice();
        Self { again: lost.again(), ..Self::fail(lost.to_string(), cause, remedy) }
    }
}

impl From<CallError> for Outcome {
    fn from(error: CallError) -> Self {
        let (cause, next) = error.advice().unwrap_or_default();
        Self::fail(error.message, cause, next)
    }
}

/// Bytes a second as people read them.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    format!("{}/s", Size((bytes as f64 / time.as_secs_f64().max(1e-6)) as u64))
}

/// Bytes as people read them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["bytes", "KiB", "MiB", "GiB"];
        let mut value = self.0 as f64;
        let mut units = UNITS.into_iter().peekable();
        while value >= 1024.0 && units.len() > 1 {
            value /= 1024.0;
            units.next();
        }
        let unit = units.next().unwrap_or_default();
        match value.fract() == 0.0 {
            true => write!(f, "{value:.0} {unit}"),
            false => write!(f, "{value:.1} {unit}"),
        }
    }
}

//! Options that several scenarios have. Each of them is by itself, as a scenario
//! may have one and not the other.

use std::time::Duration;

use clap::Args;

use crate::{failure::Failure, values::duration};

/// How many responses a stream is to have.
#[derive(Debug, Clone, Args)]
pub(crate) struct Count {
    /// Number of messages; 0 continues until Ctrl-C
    #[arg(long, default_value_t = 10, value_name = "N", allow_negative_numbers = true)]
    pub(crate) count: u64,
}

impl Count {
    /// What is left after so many, as the protos have it: 0 goes on without end.
    /// `None` when there were enough.
    pub(crate) fn left_after(&self, had: u64) -> Option<u64> {
        match self.count {
            0 => Some(0),
            count => Some(count.saturating_sub(had)).filter(|left| *left > 0),
        }
    }
}

/// How often there is to be one.
#[derive(Debug, Clone, Args)]
pub(crate) struct Interval {
    /// Time between two messages
    #[arg(
        long,
        default_value = "1s",
        value_name = "DURATION",
        value_parser = duration,
        allow_hyphen_values = true
    )]
    pub(crate) interval: Duration,
}

impl Interval {
    pub(crate) fn wire(&self) -> Result<Option<prost_types::Duration>, Failure> {
        let wire = prost_types::Duration::try_from(self.interval);
        wire.map(Some)
            .map_err(|error| Failure::answer(format!("an interval that is too long for a message: {error}")))
    }
}

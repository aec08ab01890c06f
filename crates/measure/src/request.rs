//! What is to be measured.

use std::{fmt, path::PathBuf, time::Duration};

use http::Uri;
use indicatif::HumanCount;
use shared_chart::Unit;
use transport::Connector;

use crate::{Amount, Call, Pattern};

/// What is to be measured.
#[derive(Debug)]
pub struct Request {
    /// The server, or what is before it.
    pub server: Uri,
    /// How to get there.
    pub connector: Connector,
    /// What to call, in place of our own service.
    pub call: Option<Call>,
    /// Only these patterns; all, when it is empty.
    pub only: Vec<Pattern>,
    /// Of each pattern.
    pub amount: Amount,
    /// Of a message, in bytes.
    pub size: u64,
    /// How many are in flight over all connections together.
    pub concurrency: usize,
    /// How many connections.
    pub connections: usize,
    /// Messages for each second, of an open loop.
    pub rate: Option<u64>,
    /// Before each measurement.
    pub warmup: Duration,
    /// Where to draw it.
    pub plot: Option<PathBuf>,
}

/// What stdout gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text {
        /// Only what to do.
        quiet: bool,
    },
    /// One object a line.
    Json,
}

/// In a line.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = match self.amount {
            Amount::Messages(messages) => HumanCount(messages).to_string(),
            Amount::Duration(duration) => humantime::format_duration(duration).to_string(),
        };
        let rate = self.rate.map(|rate| format!(" at {}/s", HumanCount(rate))).unwrap_or_default();
        let connections = match self.connections {
            1 => "1 connection".to_owned(),
            several => format!("{several} connections"),
        };
        write!(f, "{}", self.server)?;
        match &self.call {
            Some(call) => write!(f, "{}: ", call.path.path().trim_start_matches('/'))?,
            None => write!(f, ": messages of {}, ", Unit::Bytes.text(self.size as f64))?,
        }
        let in_flight = HumanCount(self.concurrency as u64);
        write!(f, "{amount}{rate} in each way, up to {in_flight} in flight over {connections}")
    }
}

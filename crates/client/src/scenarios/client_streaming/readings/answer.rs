//! The server's answers to all calls, added up.

use std::{collections::BTreeMap, fmt};

use console::{Alignment, pad_str};
use indicatif::HumanCount;
use serde::Serialize;
use shared_proto::fourmodes::v1::{DeviceStatistics, RecordReadingsResponse};
use timeline::words::{counted, printable};

use super::input::Refused;

/// How many refused rows are listed with a reason.
pub(super) const LISTED_REFUSALS: usize = 100;

/// The sum over all calls.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Answer {
    pub(super) producer_id: String,
    pub(crate) count: u64,
    /// Delivered again: the server knew them from an earlier run, or from a call whose
    /// answer was lost.
    pub(crate) repeated_count: u64,
    pub(crate) refused_count: u64,
    /// The first refused rows, by line. The client refuses rows that are not readings;
    /// the server refuses readings that make no sense.
    pub(super) refused: Vec<Refused>,
    #[serde(serialize_with = "values")]
    pub(crate) devices: BTreeMap<String, Device>,
}

/// The server's totals for a device, which include readings of others.
#[derive(Debug, Serialize)]
pub(crate) struct Device {
    device: String,
    accepted_through: u64,
    #[serde(flatten)]
    statistics: Option<Statistics>,
}

#[derive(Debug, Serialize)]
struct Statistics {
    count: u64,
    first_time: String,
    last_time: String,
    min: f64,
    max: f64,
    mean: f64,
    standard_deviation: f64,
    p50: f64,
    p95: f64,
    p99: f64,
}

/// Rows that were refused.
#[derive(Default)]
pub(super) struct Refusals {
    pub(super) count: u64,
    /// The first of them.
    pub(super) listed: Vec<Refused>,
}

impl Answer {
    pub(crate) fn add(&mut self, response: RecordReadingsResponse) {
        self.count += response.count;
        self.repeated_count += response.repeated_count;
        let refused = response.refused.into_iter();
        let listed = refused.map(|refused| Refused { line: refused.line, reason: refused.reason }).collect();
        self.refuse(&mut Refusals { count: response.refused_count, listed });
        let devices = response.devices.into_iter();
        self.devices.extend(devices.map(|device| (device.device.clone(), device.into())));
    }

    pub(super) fn refuse(&mut self, refusals: &mut Refusals) {
        let Refusals { count, listed } = std::mem::take(refusals);
        self.refused_count = self.refused_count.saturating_add(count);
        self.refused.extend(listed);
        self.refused.sort_by_key(|refused| refused.line);
        self.refused.truncate(LISTED_REFUSALS);
    }
}

fn values<S: serde::Serializer>(devices: &BTreeMap<String, Device>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(devices.values())
}

impl From<DeviceStatistics> for Device {
    fn from(statistics: DeviceStatistics) -> Self {
        let time =
            |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
        let DeviceStatistics { device, accepted_through, .. } = statistics;
        let statistics = (statistics.count > 0).then(|| Statistics {
            count: statistics.count,
            first_time: time(statistics.first_time),
            last_time: time(statistics.last_time),
            min: statistics.min,
            max: statistics.max,
            mean: statistics.mean,
            standard_deviation: statistics.standard_deviation,
            p50: statistics.p50,
            p95: statistics.p95,
            p99: statistics.p99,
        });
        Self { device, accepted_through, statistics }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How many lines of each kind are printed for people.
        const LINES: usize = 20;
        let devices = self.devices.len() as u64;
        let measured = || self.devices.values().filter_map(|d| Some((&d.device, d.statistics.as_ref()?)));
        write!(f, "{} of {}, ", counted(self.count, "reading"), counted(devices, "device"))?;
        if self.repeated_count > 0 {
            write!(f, "{} known before, ", HumanCount(self.repeated_count))?;
        }
        write!(f, "{} refused", HumanCount(self.refused_count))?;
        for Refused { line, reason } in self.refused.iter().take(LINES) {
            write!(f, "\n    line {line}: {}", printable(reason))?;
        }
        if self.refused_count > LINES as u64 {
            write!(f, "\n    … and {} more", self.refused_count - LINES as u64)?;
        }
        if measured().next().is_none() {
            return Ok(());
        }
        let head = ["min", "p50", "p95", "p99", "max", "mean", "std dev"];
        // Columns of ten and seven characters and seven of nine: 80, as wide as a
        // narrow terminal.
        write!(f, "\n{:<10}{:>7}", "device", "count")?;
        head.iter().try_for_each(|title| write!(f, "{title:>9}"))?;
        for (device, d) in measured().take(LINES) {
            write!(f, "\n{}{:>7}", pad_str(&printable(device), 10, Alignment::Left, Some("…")), d.count)?;
            let figures = [d.min, d.p50, d.p95, d.p99, d.max, d.mean, d.standard_deviation];
            figures.iter().try_for_each(|figure| write!(f, "{:>9}", rounded(*figure)))?;
        }
        match measured().count().saturating_sub(LINES) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more devices, all of them with --output json"),
        }
    }
}

/// Formats a number for a column of nine characters.
fn rounded(figure: f64) -> String {
    match figure.abs() {
        0.0 | 1e-3..1e3 => format!("{figure:.3}"),
        1e3..1e5 => format!("{figure:.1}"),
        _ => format!("{figure:.1e}"),
    }
}

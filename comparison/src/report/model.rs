//! The results of a run, as they are written as JSON.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::goal::Goal;
use crate::{
    beside::Beside,
    costs::Cost,
    durable::Durable,
    growth::{Size, Streams},
    latency::Latency,
    machine::{Machine, Versions},
    measure::Measured,
    memory::Memory,
    statistics::Spread,
    wire::Wire,
    work::{Contestant, Work},
};

/// The results of a run. Parts that were not requested are absent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub(crate) machine: Machine,
    pub(crate) versions: Versions,
    pub(crate) command: String,
    pub(crate) rounds: usize,
    pub(crate) each_seconds: f64,
    pub(crate) goals: Vec<Goal>,
    pub(crate) rates: Vec<Rate>,
    pub(crate) durable: Option<Durable>,
    pub(crate) memory: Option<Memory>,
    pub(crate) beside: Option<Beside>,
    pub(crate) streams: Vec<Streams>,
    pub(crate) sizes: Vec<Size>,
    #[serde(default)]
    pub(crate) wire: Vec<Wire>,
    #[serde(default)]
    pub(crate) costs: Vec<Cost>,
}

/// One contestant's rate for one kind of work.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rate {
    pub(crate) work: Work,
    pub(crate) contestant: Contestant,
    /// Operations for each second of the server's CPU time.
    pub(crate) per_cpu_second: Spread,
    pub(crate) per_second: Spread,
    /// Our rate divided by this contestant's, by the server's CPU time.
    pub(crate) ratio: Spread,
    /// The same ratio by the clock, where the client may be the bottleneck.
    pub(crate) ratio_by_clock: Spread,
    /// The rates behind the ratio, one entry per round.
    pub(crate) rounds_per_cpu_second: Vec<f64>,
    /// How long the answers took, where messages have answers of their own.
    #[serde(default)]
    pub(crate) answers: Option<Answers>,
}

/// From a message to its answer, in microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answers {
    pub(crate) p50: Spread,
    pub(crate) p99: Spread,
    /// Our p50 divided by this contestant's.
    pub(crate) ratio: Spread,
}

impl Answers {
    fn of(ours: &[Latency], theirs: &[Latency]) -> Option<Self> {
        let p50 = |of: &[Latency]| of.iter().map(|round| round.p50).collect::<Vec<_>>();
        Some(Self {
            p50: Spread::of(p50(theirs))?,
            p99: Spread::of(theirs.iter().map(|round| round.p99))?,
            ratio: Spread::ratio(&p50(ours), &p50(theirs))?,
        })
    }
}

impl Rate {
    /// Compares ours with each of the others.
    pub(crate) fn of(measured: &[Measured]) -> Vec<Self> {
        let rows = measured.iter().filter_map(|of| {
            let ours = measured.iter().find(|it| it.work == of.work && it.contestant == Contestant::Ours)?;
            Some(Self {
                work: of.work,
                contestant: of.contestant,
                per_cpu_second: Spread::of(of.rates.cpu.iter().copied())?,
                per_second: Spread::of(of.rates.wall.iter().copied())?,
                ratio: Spread::ratio(&ours.rates.cpu, &of.rates.cpu)?,
                ratio_by_clock: Spread::ratio(&ours.rates.wall, &of.rates.wall)?,
                rounds_per_cpu_second: of.rates.cpu.clone(),
                answers: Answers::of(&ours.rates.answers, &of.rates.answers),
            })
        });
        rows.collect()
    }
}

impl Report {
    /// Reads the report of an earlier run.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read, or when it has another version.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let what = || format!("{} is no report; `just compare` makes one", file.display());
        serde_json::from_str(&fs::read_to_string(file).with_context(what)?).with_context(what)
    }
}

//! What was measured, as the JSON has it.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::goal::Goal;
use crate::{
    beside::Beside,
    durable::Durable,
    growth::{Size, Streams},
    machine::{Machine, Versions},
    measure::Measured,
    memory::Memory,
    statistics::Spread,
    wire::Wire,
    work::{Contestant, Work},
};

/// All of a run. What was not asked for is not there.
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
}

/// A work by a contestant.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rate {
    pub(crate) work: Work,
    pub(crate) contestant: Contestant,
    /// Operations for each second of the server's CPU time.
    pub(crate) per_cpu_second: Spread,
    pub(crate) per_second: Spread,
    /// How many times what this one does ours does, by the server's CPU time.
    pub(crate) ratio: Spread,
    /// Likewise by the clock, where the client may be what is slow.
    pub(crate) ratio_by_clock: Spread,
    /// What the ratio was made of, a round an entry.
    pub(crate) rounds_per_cpu_second: Vec<f64>,
}

impl Rate {
    /// Ours beside each of the others.
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
            })
        });
        rows.collect()
    }
}

impl Report {
    /// Reads what a run has written.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is not of this version.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let what = || format!("{} is no report; `just compare` makes one", file.display());
        serde_json::from_str(&fs::read_to_string(file).with_context(what)?).with_context(what)
    }
}

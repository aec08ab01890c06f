//! What was measured: this is the JSON, and what else is told is made of it.

mod goals;
mod markdown;
mod notes;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

pub(crate) use self::goals::Goal;
use crate::{
    beside::Beside,
    durable::Durable,
    growth::{Size, Streams},
    machine::{Machine, Versions},
    measure::Measured,
    memory::Memory,
    statistics::Spread,
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

    /// Writes `performance.md` into a directory, its pictures and the figures
    /// into `performance` below it.
    ///
    /// # Errors
    ///
    /// When that cannot be written, or when the notes are about something else.
    pub fn write(&self, directory: &Path) -> anyhow::Result<Written> {
        let beside = directory.join("performance");
        fs::create_dir_all(&beside).with_context(|| format!("no directory {}", beside.display()))?;
        let notes = notes::read(&beside.join("notes.md"), self)?;
        let pictures = svg::figures(self).into_iter();
        let pictures = pictures.map(|(name, figure)| Ok((svg::path(name), figure.svg()?)));
        let mut files = pictures.collect::<anyhow::Result<Vec<_>>>()?;
        files.push(("performance/comparison.json".into(), serde_json::to_string_pretty(self)? + "\n"));
        files.push(("performance.md".into(), markdown::page(self, &notes)));
        let write = |(name, content): (String, String)| {
            let file = directory.join(name);
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(file)
        };
        let unexplained = self.goals.iter().filter(|goal| goal.holds == Some(false));
        let unexplained = unexplained.map(|goal| goal.key.clone()).filter(|key| !notes.contains_key(key));
        Ok(Written {
            unexplained: unexplained.collect(),
            files: files.into_iter().map(write).collect::<anyhow::Result<_>>()?,
        })
    }
}

/// What [`Report::write`] has done.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// All that was written.
    pub files: Vec<PathBuf>,
    /// Goals that are not reached, and no note says why.
    pub unexplained: Vec<String>,
}

/// `1,234,567`, in four digits.
fn number(value: f64) -> String {
    let power = 10f64.powi((value.abs().max(1.0).log10() as i32 - 3).max(0));
    let digits = format!("{:.0}", (value / power).round() * power);
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

//! What was measured, for people and for programs.

use std::fmt;

use serde::Serialize;

use crate::{
    measure::{Measured, Rates},
    work::Work,
};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    works: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    work: Work,
    /// Operations for each second of the server's CPU time, and the ratio of
    /// ours to the bare one.
    ours: f64,
    bare_tonic: f64,
    ratio: f64,
    /// The smallest and the largest ratio of a round.
    spread: [f64; 2],
    /// The ratio by the clock, where the client may be what is slow.
    wall_ratio: f64,
}

impl Report {
    pub(crate) fn new(measured: &[Measured]) -> Self {
        let works = measured.iter().map(|Measured { work, ours, bare }| {
            let rounds = ours.iter().zip(bare).map(|(ours, bare)| ours.cpu / bare.cpu);
            let mut rounds: Vec<_> = rounds.collect();
            rounds.sort_by(f64::total_cmp);
            let (cpu, wall) = (|rates: &Rates| rates.cpu, |rates: &Rates| rates.wall);
            Row {
                work: *work,
                ours: median(ours, cpu),
                bare_tonic: median(bare, cpu),
                ratio: median(ours, cpu) / median(bare, cpu),
                spread: [rounds[0], rounds[rounds.len() - 1]],
                wall_ratio: median(ours, wall) / median(bare, wall),
            }
        });
        Self { works: works.collect() }
    }
}

fn median(rates: &[Rates], of: impl Fn(&Rates) -> f64) -> f64 {
    let mut sorted: Vec<_> = rates.iter().map(of).collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "operations for each second of the server's CPU time")?;
        writeln!(
            f,
            "{:<18}{:>12}{:>12}{:>8}  {:<14}{:>8}",
            "", "server", "bare tonic", "ratio", "of each round", "by clock"
        )?;
        for Row { work, ours, bare_tonic, ratio, spread: [least, most], wall_ratio } in &self.works {
            let work = clap::ValueEnum::to_possible_value(work);
            let work = work.as_ref().map_or("", |work| work.get_name());
            writeln!(
                f,
                "{work:<18}{ours:>12.0}{bare_tonic:>12.0}{ratio:>8.3}  {:<14}{wall_ratio:>8.3}",
                format!("{least:.3}–{most:.3}")
            )?;
        }
        Ok(())
    }
}

//! What was measured, for people and for programs.

use std::fmt;

use serde::Serialize;

use crate::{
    measure::{Measured, Rates},
    work::{Contestant, Work, name},
};

/// Medians of all rounds; displayed, a table.
#[derive(Debug, Serialize)]
pub struct Report {
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    work: Work,
    contestant: Contestant,
    per_cpu_second: f64,
    per_second: f64,
    /// What ours does for each that this one does, by the server's CPU time.
    ratio: f64,
    /// The smallest and the largest of a round.
    spread: [f64; 2],
    /// Likewise by the clock, where the client may be what is slow.
    ratio_by_clock: f64,
}

impl Report {
    /// Ours beside each of the others.
    pub fn new(measured: &[Measured]) -> Self {
        let rows = measured.iter().filter_map(|of| {
            let ours = measured.iter().find(|it| it.work == of.work && it.contestant == Contestant::Ours)?;
            let (cpu, wall) = (|rates: &Rates| rates.cpu, |rates: &Rates| rates.wall);
            let rounds = ours.rates.iter().zip(&of.rates).map(|(ours, of)| ours.cpu / of.cpu);
            let spread = rounds.fold([f64::MAX, 0.0], |[least, most], it| [it.min(least), it.max(most)]);
            Some(Row {
                work: of.work,
                contestant: of.contestant,
                per_cpu_second: median(of, cpu),
                per_second: median(of, wall),
                ratio: median(ours, cpu) / median(of, cpu),
                spread,
                ratio_by_clock: median(ours, wall) / median(of, wall),
            })
        });
        Self { rows: rows.collect() }
    }
}

fn median(measured: &Measured, of: impl Fn(&Rates) -> f64) -> f64 {
    let mut sorted: Vec<_> = measured.rates.iter().map(of).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<18}{:<14}{:>14}{:>12}   {:>6}  {:<13}{:>8}",
            "", "", "a CPU second", "a second", "ratio", "each round", "by clock"
        )?;
        for row in &self.rows {
            let work = if row.contestant == Contestant::Ours { name(row.work) } else { String::new() };
            let (contestant, per_cpu) = (row.contestant.to_string(), row.per_cpu_second);
            write!(f, "{work:<18}{contestant:<14}{per_cpu:>14.0}{:>12.0}", row.per_second)?;
            if row.contestant != Contestant::Ours {
                let [least, most] = row.spread;
                let spread = format!("{least:.2} to {most:.2}");
                write!(f, "   {:>6.3}  {spread:<13}{:>8.3}", row.ratio, row.ratio_by_clock)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

//! For a terminal.

use std::fmt;

use shared_chart::Unit;

use super::{model::Report, number::number};
use crate::{
    wire::Wire,
    work::{Contestant, name},
};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.versions.profile == "debug" {
            writeln!(f, "These are debug binaries: it works, but the figures say nothing.")?;
        }
        self.rates(f)?;
        if let Some(durable) = &self.durable {
            let size = Unit::Bytes.text(durable.bytes as f64);
            writeln!(f, "\ndurable: {size}, a round a line")?;
            for (upload, copy) in durable.upload_seconds.iter().zip(&durable.copy_seconds) {
                writeln!(f, "    upload {:>8}   cp and fsync {:>8}", seconds(*upload), seconds(*copy))?;
            }
        }
        if let Some(memory) = &self.memory {
            let (streams, connections) = (number(memory.streams as f64), memory.connections);
            writeln!(f, "\nmemory: {streams} idle streams over {connections} connections, a round a line")?;
            for round in &memory.rounds {
                let [before, open, closed, after, calls] =
                    [round.before, round.open, round.closed, round.after, round.after_calls]
                        .map(|it| Unit::Bytes.text(it as f64));
                let settled = seconds(round.after_seconds);
                writeln!(
                    f,
                    "    before {before}, open {open}, closed {closed}, {settled} later {after}, after calls {calls}"
                )?;
            }
        }
        if let Some(beside) = &self.beside {
            let (half, highest) = (beside.per_second, beside.highest_per_second);
            writeln!(
                f,
                "\nbeside: {half:.0} calls a second, half of {highest:.0}; p50 and p99, a round a line"
            )?;
            let uploads = beside.beside_upload.iter().zip(&beside.upload_bytes_per_second);
            for (alone, (beside, upload)) in beside.alone.iter().zip(uploads) {
                let [p50, p99, p50_beside, p99_beside] =
                    [alone.p50, alone.p99, beside.p50, beside.p99].map(|it| seconds(it / 1e6));
                let upload = Unit::BytesPerSecond.text(*upload);
                writeln!(
                    f,
                    "    {p50:>8} {p99:>8}   beside an upload of {upload} {p50_beside:>8} {p99_beside:>8}"
                )?;
            }
        }
        if !self.streams.is_empty() {
            writeln!(f, "\n{:<24}{:>14}{:>12}", "streams at once", "a CPU second", "a second")?;
            for point in &self.streams {
                let what = format!("{:>5}  {}", point.streams, point.contestant);
                let (cpu, wall) = (point.per_cpu_second.median, point.per_second.median);
                writeln!(f, "{what:<24}{cpu:>14.0}{wall:>12.0}")?;
            }
        }
        if !self.sizes.is_empty() {
            writeln!(f, "\n{:<24}{:>14}{:>12}", "there and back", "p50", "p99")?;
            for point in &self.sizes {
                let size = Unit::Bytes.text(point.bytes.into());
                let what = format!("{size:>8}  {}", point.contestant);
                let [p50, p99] = [point.p50, point.p99].map(|it| seconds(it.median / 1e6));
                writeln!(f, "{what:<24}{p50:>14}{p99:>12}")?;
            }
        }
        if !self.costs.is_empty() {
            writeln!(
                f,
                "\n{:<18}{:<14}{:>10}{:>10}{:>8}{:>14}",
                "an operation", "", "program", "kernel", "sleeps", "system calls"
            )?;
            for cost in &self.costs {
                let (work, by) = (name(cost.work), cost.contestant.to_string());
                let [program, kernel] = [cost.program, cost.kernel].map(|it| seconds(it / 1e6));
                let (sleeps, calls) = (cost.sleeps, cost.system_calls.values().sum::<f64>());
                writeln!(f, "{work:<18}{by:<14}{program:>10}{kernel:>10}{sleeps:>8.3}{calls:>14.3}")?;
            }
        }
        if !self.wire.is_empty() {
            writeln!(f, "\n{:<24}{:>14}{:>12}", "bytes of a call", "request", "response")?;
            for Wire { contestant, request, response } in &self.wire {
                writeln!(f, "{:<24}{request:>14.0}{response:>12.0}", contestant.to_string())?;
            }
        }
        self.goals(f)
    }
}

impl Report {
    fn rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rates.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "{:<18}{:<14}{:>14}{:>12}   {:>6}  {:<13}{:>8}{:>10}",
            "", "", "a CPU second", "a second", "ratio", "each round", "by clock", "p50"
        )?;
        for row in &self.rates {
            let work = if row.contestant == Contestant::Ours { name(row.work) } else { String::new() };
            let (contestant, per_cpu) = (row.contestant.to_string(), row.per_cpu_second.median);
            write!(f, "{work:<18}{contestant:<14}{per_cpu:>14.0}{:>12.0}", row.per_second.median)?;
            if row.contestant != Contestant::Ours {
                let spread = format!("{:.2} to {:.2}", row.ratio.least, row.ratio.most);
                write!(f, "   {:>6.3}  {spread:<13}{:>8.3}", row.ratio.median, row.ratio_by_clock.median)?;
            }
            let width = if row.contestant == Contestant::Ours { 42 } else { 10 };
            let p50 = row.answers.as_ref().map(|answers| seconds(answers.p50.median / 1e6));
            writeln!(f, "{:>width$}", p50.unwrap_or_default())?;
        }
        Ok(())
    }

    fn goals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measured = || self.goals.iter().filter(|goal| goal.measured.is_some());
        if measured().next().is_some() {
            writeln!(f, "\n{:<32}{:<18}{:>10}   {:<22}holds", "goal", "", "measured", "each round")?;
        }
        for goal in measured() {
            let (bound, value, spread) = (goal.bound.words(), goal.measured(), goal.spread());
            writeln!(f, "{:<32}{bound:<18}{value:>10}   {spread:<22}{}", goal.key, goal.verdict())?;
        }
        Ok(())
    }
}

fn seconds(value: f64) -> String {
    Unit::Seconds.text(value)
}

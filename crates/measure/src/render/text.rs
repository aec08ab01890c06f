//! For people: a line for each way as it ends, then what a message costs, and what
//! to do.

use std::{
    io::{self, Write},
    time::Duration,
};

use console::Style;
use shared_chart::Unit;
use timeline::words::{paragraph, printable};

use crate::{
    load::Schedule,
    pattern::{Goal, TimeOf},
    recommend::Recommendation,
    renderer::{Renderer, Summary},
    report::{Figures, Measured},
    server::ServerCpu,
};

/// The quantiles of the first table. A terminal of 80 columns has no room for the second one.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
/// The width of the first table.
const WIDE: usize = 88;

pub(crate) struct Text<W> {
    out: W,
    asked: String,
    /// Only what to do is told.
    quiet: bool,
    colour: bool,
    /// Of the terminal.
    columns: usize,
    goal: Option<Goal>,
}

impl<W: Write> Text<W> {
    pub(crate) fn new(out: W, asked: String, quiet: bool, colour: bool, columns: usize) -> Self {
        Self { out, asked, quiet, colour, columns, goal: None }
    }

    fn quantiles(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let is_narrow = self.columns < WIDE;
        QUANTILES.into_iter().filter(move |(name, _)| !is_narrow || *name != "p90")
    }

    /// One paragraph, indented, after a word that says what it is.
    fn paragraph(&mut self, what: &str, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", paragraph(&format!("{what:10}"), text, self.columns.min(97)))
    }

    fn head(&mut self, columns: &str) -> io::Result<()> {
        let style = Style::new().bold().force_styling(self.colour);
        writeln!(self.out, "\n{}", style.apply_to(columns))
    }

    fn schedule(&mut self, schedule: &Schedule) -> io::Result<()> {
        let Schedule { rate, messages, unsent, late, behind, kept } = *schedule;
        if kept && late == 0 {
            return Ok(());
        }
        let behind = seconds(Some(behind));
        let text = match (kept, unsent) {
            (true, _) => format!("{late} of {messages} messages were sent late, by up to {behind}"),
            (false, 0) => format!("{rate}/s not kept: a message was sent {behind} late"),
            (false, _) => format!(
                "{rate}/s not kept: {unsent} of {messages} messages were given up, one was sent {behind} \
                 late"
            ),
        };
        writeln!(self.out, "  {text}")
    }

    fn costs(&mut self, measured: &[Measured]) -> io::Result<()> {
        const HEADS: [&str; 8] =
            ["B sent", "received", "client CPU", "server CPU", "headers", "first", "blocked", "to ack"];
        for measured in measured.chunk_by(|a, b| a.goal == b.goal) {
            let mut rows =
                vec![(format!("{}: a message", measured[0].goal.name()), HEADS.map(str::to_owned))];
            rows.extend(measured.iter().filter_map(|measured| {
                let figures = measured.outcome.as_ref().ok()?;
                Some((measured.pattern.title().to_owned(), costs(figures)))
            }));
            if rows.len() == 1 {
                continue;
            }
            // What none of the ways has is no column.
            let is_there = |column: &usize| rows[1..].iter().any(|(_, cells)| !cells[*column].is_empty());
            let shown: Vec<_> = (0..HEADS.len()).filter(is_there).collect();
            let names = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
            for (n, (name, cells)) in rows.iter().enumerate() {
                let mut row = format!("{name:<names$}");
                for column in &shown {
                    row.push_str(&format!(
                        " {:>width$}",
                        cells[*column],
                        width = HEADS[*column].len().max(7)
                    ));
                }
                match n {
                    0 => self.head(&row)?,
                    _ => writeln!(self.out, "{}", row.trim_end())?,
                }
            }
        }
        Ok(())
    }

    /// What the columns mean, as far as they are there.
    fn legend(&mut self, measured: &[Measured]) -> io::Result<()> {
        let figures = || measured.iter().filter_map(|measured| measured.outcome.as_ref().ok());
        let mut lines = Vec::new();
        let paced = figures().any(|figures| figures.schedule.is_some());
        for (time_of, what) in [
            (
                TimeOf::Answer,
                if paced {
                    "from a message's due time to its answer"
                } else {
                    "from a message to its answer"
                },
            ),
            (TimeOf::Gap, "from one message to the next; 0 s for messages that arrive together"),
            (TimeOf::Send, "from handing over a piece of the stream until the next one is accepted"),
            (TimeOf::Wait, "from a message's due time until the stream accepts it; columns wait for a batch"),
            (TimeOf::Call, "from a call's due time to its end"),
        ] {
            if figures().any(|figures| figures.time_of == time_of) {
                lines.push((time_of.name(), what.to_owned()));
            }
        }
        if figures().any(|figures| figures.headers.is_some()) {
            let text = "from the start of a stream to the headers of its answer, and to the first message";
            lines.push(("headers", text.to_owned()));
        }
        if figures().any(|figures| figures.blocked.is_some()) {
            lines.push(("blocked", "the share of the time in which the stream could not send".to_owned()));
        }
        if figures().any(|figures| figures.acknowledged.is_some()) {
            let text = "from the last message of a stream to the answer that counts all of them";
            lines.push(("to ack", text.to_owned()));
        }
        let mut unknown = figures().filter_map(|figures| match &figures.server_cpu {
            ServerCpu::Unknown(reason) => Some(reason),
            _ => None,
        });
        if let Some(reason) = unknown.next() {
            lines.push(("?", format!("not known: {}", printable(reason))));
        }
        if figures().any(|figures| matches!(figures.server_cpu, ServerCpu::Shared(_))) {
            lines.push(("≤", "other clients also called the server, so some of it is theirs".to_owned()));
        }
        writeln!(self.out)?;
        lines.into_iter().try_for_each(|(what, text)| self.paragraph(what, &text))
    }

    fn recommend(&mut self, said: &Recommendation) -> io::Result<()> {
        let style = Style::new().bold().force_styling(self.colour);
        self.paragraph(said.goal.name(), &style.apply_to(&said.sentence).to_string())?;
        self.paragraph("  reason", &said.reason)?;
        self.paragraph("  price", &said.price)
    }
}

impl<W: Write + Send> Renderer for Text<W> {
    fn measured(&mut self, Measured { goal, pattern, outcome }: &Measured) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        if self.goal.is_none() {
            writeln!(self.out, "{}", paragraph("", &self.asked, self.columns))?;
        }
        if self.goal.replace(*goal) != Some(*goal) {
            let names = self.quantiles().map(|(name, _)| name).chain(["max"]);
            let times: String = names.map(|name| format!("{name:>8}")).collect();
            self.head(&format!("{:<19}messages/s    bytes/s time of{times}", goal.name()))?;
        }
        match outcome {
            Ok(figures) => {
                let quantiles = self.quantiles().map(|(_, quantile)| figures.quantile(quantile));
                let times = quantiles.chain([figures.times.max() as f64 / 1e9]);
                let times: String = times.map(|time| format!("{:>8}", Unit::Seconds.text(time))).collect();
                writeln!(
                    self.out,
                    "{:<19}{:>10}{:>11} {:<7}{times}",
                    pattern.title(),
                    Unit::PerSecond.text(figures.rate()),
                    Unit::BytesPerSecond.text(figures.bytes_rate()),
                    figures.time_of.name(),
                )?;
                figures.schedule.iter().try_for_each(|schedule| self.schedule(schedule))?;
            }
            Err(reason) => {
                writeln!(self.out, "{:<19}  left out: {}", pattern.title(), printable(reason))?;
            }
        }
        self.out.flush()
    }

    fn finish(&mut self, summary: &Summary<'_>) -> io::Result<()> {
        if !self.quiet && summary.measured.iter().any(|measured| measured.outcome.is_ok()) {
            self.costs(summary.measured)?;
            self.legend(summary.measured)?;
        }
        if !self.quiet && !summary.recommendations.is_empty() {
            writeln!(self.out)?;
        }
        summary.recommendations.iter().try_for_each(|said| self.recommend(said))?;
        self.out.flush()
    }
}

/// What a message costs, in the order of the columns.
fn costs(figures: &Figures) -> [String; 8] {
    let wire = |bytes: u64| format!("{:.1}", figures.per_message(bytes as f64));
    let blocked = figures.blocked.map(|blocked| {
        let all = figures.took.as_secs_f64() * figures.connections as f64;
        format!("{:.0} %", 100.0 * blocked.as_secs_f64() / all)
    });
    [
        wire(figures.wire_sent),
        wire(figures.wire_received),
        micro(figures.client_cpu()),
        match &figures.server_cpu {
            ServerCpu::Known(_) => micro(figures.server_cpu()),
            ServerCpu::Shared(cpu) => format!("≤{}", micro(Some(figures.per_message(cpu.as_secs_f64())))),
            ServerCpu::Unknown(_) => "?".to_owned(),
        },
        seconds(figures.headers),
        seconds(figures.first_message),
        blocked.unwrap_or_default(),
        seconds(figures.acknowledged),
    ]
}

fn seconds(time: Option<Duration>) -> String {
    time.map(|time| Unit::Seconds.text(time.as_secs_f64())).unwrap_or_default()
}

/// Seconds of CPU time, of which most are too few for another unit.
fn micro(seconds: Option<f64>) -> String {
    seconds.map_or("?".to_owned(), |seconds| Unit::Seconds.text(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_is_bold_on_a_terminal_that_has_colours() {
        let mut text = Text::new(Vec::new(), String::new(), true, true, 80);
        let said = Recommendation {
            goal: Goal::Deliver,
            pattern: None,
            sentence: "Take what you like.".to_owned(),
            reason: "all are alike".to_owned(),
            price: "none".to_owned(),
        };
        text.recommend(&said).unwrap();
        let text = String::from_utf8(text.out).unwrap();
        assert!(text.starts_with("deliver   \u{1b}[1mTake what you like.\u{1b}[0m\n"), "{text:?}");
    }
}

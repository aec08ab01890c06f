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

pub(crate) struct Text<W> {
    out: W,
    asked: String,
    /// Only what to do is told.
    quiet: bool,
    colour: bool,
    goal: Option<Goal>,
}

impl<W: Write> Text<W> {
    pub(crate) fn new(out: W, asked: String, quiet: bool, colour: bool) -> Self {
        Self { out, asked, quiet, colour, goal: None }
    }

    /// One paragraph, indented, after a word that says what it is.
    fn paragraph(&mut self, what: &str, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", paragraph(&format!("{what:10}"), text, 97))
    }

    /// The columns of both tables begin with a word for where messages go.
    fn head(&mut self, name: &str, columns: &str) -> io::Result<()> {
        let style = Style::new().bold().force_styling(self.colour);
        writeln!(self.out, "\n{}", style.apply_to(format!("{name:<20}{columns}")))
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
        let mut told: Option<Goal> = None;
        for Measured { goal, pattern, outcome } in measured {
            let Ok(figures) = outcome else { continue };
            if told != Some(*goal) {
                told = Some(*goal);
                self.head(
                    &format!("{}: a message", goal.name()),
                    "   B sent  received client CPU server CPU   headers    first  blocked   to ack",
                )?;
            }
            let wire = |bytes: u64| format!("{:.1}", figures.per_message(bytes as f64));
            let server = match &figures.server_cpu {
                ServerCpu::Known(_) => micro(figures.server_cpu()),
                ServerCpu::Shared(cpu) => format!("≤{}", micro(Some(figures.per_message(cpu.as_secs_f64())))),
                ServerCpu::Unknown(_) => "?".to_owned(),
            };
            let blocked = figures.blocked.map(|blocked| {
                let all = figures.took.as_secs_f64() * figures.connections as f64;
                format!("{:.0} %", 100.0 * blocked.as_secs_f64() / all)
            });
            let row = format!(
                "{:<20}{:>9}{:>10}{:>11}{server:>11}{:>10}{:>9}{:>9}{:>9}",
                pattern.title(),
                wire(figures.wire_sent),
                wire(figures.wire_received),
                micro(figures.client_cpu()),
                seconds(figures.headers),
                seconds(figures.first_message),
                blocked.unwrap_or_default(),
                seconds(figures.acknowledged),
            );
            writeln!(self.out, "{}", row.trim_end())?;
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
            writeln!(self.out, "{}", self.asked)?;
        }
        if self.goal.replace(*goal) != Some(*goal) {
            self.head(
                goal.name(),
                " messages/s     bytes/s  time of     p50      p90      p99    p99.9      max",
            )?;
        }
        match outcome {
            Ok(figures) => {
                writeln!(self.out, "{:<20}{}", pattern.title(), row(figures))?;
                figures.schedule.iter().try_for_each(|schedule| self.schedule(schedule))?;
            }
            Err(reason) => {
                writeln!(self.out, "{:<20}  left out: {}", pattern.title(), printable(reason))?;
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

fn row(figures: &Figures) -> String {
    let quantiles = [0.5, 0.9, 0.99, 0.999].map(|quantile| figures.quantile(quantile));
    let times = quantiles.into_iter().chain([figures.times.max() as f64 / 1e9]);
    let mut row = format!(
        "{:>11}{:>12}  {:<6}",
        Unit::PerSecond.text(figures.rate()),
        Unit::BytesPerSecond.text(figures.bytes_rate()),
        figures.time_of.name(),
    );
    times.for_each(|time| row.push_str(&format!("{:>9}", Unit::Seconds.text(time))));
    row
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
        let mut text = Text::new(Vec::new(), String::new(), true, true);
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

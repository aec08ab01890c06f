//! A sequence diagram that grows line by line while things happen.

use std::{
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use console::{Alignment, Style, Term, measure_text_width, pad_str, truncate_str};
use grpc_wire::{
    code_name,
    timeout::{self, GRPC_TIMEOUT},
};
use tonic::Code;

use crate::{
    Event, Kind, Outcome, Renderer, Side,
    event::{at, ejected, headers, reconnect, sent},
    fold::{Fold, Held},
    words::{columns, counted, printable, wrapped},
};

/// Where stdout is no terminal, in columns.
const WIDTH: usize = 100;
/// The column of times, in columns.
const TIMES: usize = 11;
/// The same where none are shown: the name above the life line has to fit.
const NO_TIMES: usize = 4;
/// How many messages of a burst a diagram shows that has something to tell.
const FEW: u64 = 3;

/// Draws events as a sequence diagram, line by line.
#[derive(Debug)]
pub struct Text<W> {
    out: W,
    /// Of the whole diagram, in columns.
    width: usize,
    /// Of the column of times, in columns.
    times: usize,
    color: bool,
    quiet: bool,
    on_terminal: bool,
    fold: Fold,
    /// Whether the two lines at the top of a diagram are still valid below the
    /// last line that was written.
    open: bool,
}

impl<W: Write> Text<W> {
    /// As wide and as colourful as the terminal that stdout is, if it is one. With
    /// `quiet` only what the user asked for is written.
    pub fn to_stdout(out: W, quiet: bool) -> Self {
        let on_terminal = io::stdout().is_terminal();
        Self { on_terminal, ..Self::new(out, terminal_width(), console::colors_enabled(), quiet) }
    }

    fn new(out: W, width: usize, color: bool, quiet: bool) -> Self {
        let fold = Fold::new(true);
        Self { out, width, times: TIMES, color, quiet, on_terminal: false, fold, open: false }
    }

    /// Without times: the same events are the same text.
    pub(crate) fn timeless(out: W) -> Self {
        Self { times: NO_TIMES, fold: Fold::new(false), ..Self::new(out, WIDTH, false, false) }
    }

    /// With few messages of a run of them.
    pub(crate) fn brief(self) -> Self {
        Self { fold: self.fold.after(FEW), ..self }
    }

    fn style(&self) -> Style {
        Style::new().force_styling(self.color)
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        // What the user has typed by now, `^C` included, is no part of the line.
        let start = if self.on_terminal { "\r" } else { "" };
        self.out.write_all(format!("{start}{}\n", line.trim_end()).as_bytes())?;
        self.out.flush()
    }

    /// The space between the two life lines, in columns.
    fn inner(&self) -> usize {
        self.width - self.times - 2
    }

    fn top(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.open, true) {
            return Ok(());
        }
        let dim = self.style().dim();
        // Each name is centred over its life line.
        let names = format!("client{}server", " ".repeat(self.inner() - 5));
        self.line(&format!("{}{}", " ".repeat(self.times - 3), dim.apply_to(names)))
    }

    /// A line of the diagram: `middle` has to be [`inner`](Self::inner) wide.
    fn row(&mut self, at: Option<Duration>, middle: &str) -> io::Result<()> {
        self.top()?;
        let time = at.filter(|_| self.times > NO_TIMES).map(time).unwrap_or_default();
        let dim = self.style().dim();
        self.line(&format!("{} │{middle}│", dim.apply_to(format!("{time:>width$}", width = self.times - 1))))
    }

    fn arrow(&mut self, at: Duration, from: Side, label: &str, style: &Style) -> io::Result<()> {
        let room = self.inner();
        let label = truncate_str(label, room - 6, "…");
        let dashes = "─".repeat(room - 5 - measure_text_width(&label));
        let middle = match from {
            Side::Client => format!("─ {} {dashes}─▶", style.apply_to(label)),
            Side::Server => format!("◀─{dashes} {} ─", style.apply_to(label)),
        };
        self.row(Some(at), &middle)
    }

    /// With a label that may go on below, to some length.
    fn long_arrow(&mut self, at: Duration, from: Side, label: &str, style: &Style) -> io::Result<()> {
        const LINES: usize = 4;
        let room = self.inner();
        let lines = wrapped(label, room - 6);
        let (first, rest) = lines.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        self.arrow(at, from, first, style)?;
        for (n, line) in rest.iter().take(LINES - 1).enumerate() {
            let more = if n + 2 == LINES && rest.len() >= LINES { " …" } else { "" };
            let middle = pad_str(&format!("  {line}{more}"), room, Alignment::Left, Some("…")).into_owned();
            self.row(None, &style.apply_to(middle).to_string())?;
        }
        Ok(())
    }

    fn folded(&mut self, folded: u64) -> io::Result<()> {
        if folded == 0 {
            return Ok(());
        }
        let label = format!("⋮ {} ⋮", counted(folded, "message"));
        let middle = pad_str(&label, self.inner(), Alignment::Center, None).into_owned();
        self.row(None, &self.style().dim().apply_to(middle).to_string())
    }

    fn catch_up(&mut self, (folded, held): (u64, Vec<Held>)) -> io::Result<()> {
        self.folded(folded)?;
        held.iter().try_for_each(|held| self.draw(&held.event()))
    }

    fn draw(&mut self, event: &Event<'_>) -> io::Result<()> {
        if self.on_terminal && self.width != terminal_width() {
            // The lines above are as wide as they are: a diagram begins anew.
            self.width = terminal_width();
            self.open = false;
        }
        let plain = self.style();
        let label = |label: String| match event.client {
            "client" => label,
            name => format!("{name}: {label}"),
        };
        match &event.kind {
            Kind::Note(text) => {
                self.open = false;
                let width = self.width;
                self.line("")?;
                wrapped(text, width).iter().try_for_each(|line| self.line(line))?;
                self.line("")
            }
            Kind::Connected { server } => {
                let label = label(format!("connect {server}"));
                self.arrow(event.at, Side::Client, &label, &plain.dim())
            }
            Kind::Request { path, metadata, server } => {
                let deadline = metadata.get(&GRPC_TIMEOUT).and_then(timeout::parse);
                let deadline = deadline.map(|deadline| {
                    let whole = Duration::from_millis(deadline.as_millis() as u64);
                    format!("  deadline {}", humantime::format_duration(whole))
                });
                let deadline = deadline.unwrap_or_default();
                let label = label(format!("HEADERS {path}{deadline}{}", at(*server)));
                self.long_arrow(event.at, Side::Client, &label, &plain)
            }
            Kind::Response { http, .. } => self.arrow(event.at, Side::Server, &label(headers(*http)), &plain),
            Kind::Message { from, number, message } => {
                let label = label(format!("message {number}  {}", message.text()));
                let style = match from {
                    Side::Client => plain.cyan(),
                    Side::Server => plain.green(),
                };
                self.long_arrow(event.at, *from, &label, &style)
            }
            Kind::Exchange { from, failed, text, .. } => {
                let style = match (from, failed) {
                    (_, true) => plain.red(),
                    (Side::Client, _) => plain.cyan(),
                    (Side::Server, _) => plain.green(),
                };
                self.long_arrow(event.at, *from, &label(printable(text).into_owned()), &style)
            }
            Kind::HalfClose => self.arrow(event.at, Side::Client, &label("half-close".to_owned()), &plain),
            Kind::Trailers { status, only, .. } => {
                let trailers = if *only { "trailers only" } else { "trailers" };
                let style = if status.code() == Code::Ok { plain } else { plain.red() };
                let text = label(format!("{trailers}  {}", code_name(status.code())));
                self.arrow(event.at, Side::Server, &text, &style)?;
                for line in wrapped(&printable(status.message()), self.inner() - 6) {
                    let middle = pad_str(&line, self.inner() - 3, Alignment::Right, None).into_owned();
                    self.row(None, &format!("{}   ", style.apply_to(middle)))?;
                }
                Ok(())
            }
            Kind::Cancel => self.arrow(event.at, Side::Client, &label("cancel".to_owned()), &plain.yellow()),
            Kind::Broken { reason } => {
                let label = label(format!("broken: {}", printable(reason)));
                self.long_arrow(event.at, Side::Server, &label, &plain.red())
            }
            Kind::Sent { from, what, text } => {
                let label = label(printable(&sent(what, text)).into_owned());
                self.long_arrow(event.at, *from, &label, &plain.dim())
            }
            Kind::Reconnect { attempt, after, reason } => {
                self.alone(event.at, Side::Client, &label(reconnect(*attempt, *after, reason)))
            }
            Kind::Ejected { server, time, reason } => {
                self.alone(event.at, Side::Client, &label(ejected(server, *time, reason)))
            }
        }
    }

    /// What one side does by itself.
    fn alone(&mut self, at: Duration, by: Side, label: &str) -> io::Result<()> {
        let room = self.inner() - 4;
        let alignment = if by == Side::Client { Alignment::Left } else { Alignment::Right };
        let lines = wrapped(&printable(label), room);
        for (line, at) in lines.iter().zip(std::iter::once(Some(at)).chain(std::iter::repeat(None))) {
            let middle = pad_str(line, room, alignment, None).into_owned();
            self.row(at, &format!("  {}  ", self.style().yellow().apply_to(middle)))?;
        }
        Ok(())
    }
}

impl<W: Write + Send> Renderer for Text<W> {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let Some(held) = self.fold.pass(event) else { return Ok(()) };
        self.catch_up(held)?;
        self.draw(event)
    }

    /// The diagram has it already, in the message that it came with.
    fn line(&mut self, _at: Duration, text: &str) -> io::Result<()> {
        match self.quiet {
            // Not trimmed, unlike a line of the diagram.
            true => {
                self.out.write_all(format!("{}\n", harmless(text)).as_bytes()).and_then(|()| self.out.flush())
            }
            false => Ok(()),
        }
    }

    fn aside(&mut self, at: Duration, by: Side, text: &str) -> io::Result<()> {
        let held = self.fold.end();
        self.catch_up(held)?;
        self.alone(at, by, text)
    }

    fn idle(&mut self, now: Duration) -> io::Result<()> {
        let held = self.fold.flush_if_paused(now);
        self.catch_up(held)
    }

    /// What went wrong goes to stderr, by way of whoever runs this.
    fn outcome(&mut self, outcome: &Outcome) -> io::Result<()> {
        let held = self.fold.end();
        self.catch_up(held)?;
        if outcome.text.is_empty() {
            return Ok(());
        }
        if !self.quiet {
            self.line("")?;
        }
        self.line(&outcome.text)
    }
}

/// Of a diagram on stdout, in columns.
fn terminal_width() -> usize {
    // The names above the life lines stick out by two columns.
    columns(&Term::stdout()).map_or(WIDTH, |columns| columns.saturating_sub(2).clamp(60, 120))
}

/// [`printable`], but a tabulator, which does no harm, stays one.
fn harmless(line: &str) -> String {
    line.split('\t').map(printable).collect::<Vec<_>>().join("\t")
}

/// `1.2 ms`, and from ten seconds on `12.3 s`.
fn time(at: Duration) -> String {
    match at.as_secs() {
        ..10 => format!("{:.1} ms", at.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", at.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_can_happen() {
        let drawn = crate::sample::drawn(Text::new(Vec::new(), WIDTH, false, false)).unwrap();
        insta::assert_snapshot!(String::from_utf8(drawn.out).unwrap());
    }

    #[test]
    fn a_narrow_diagram_in_colour_keeps_its_lines_straight() {
        let text = crate::sample::drawn(Text::new(Vec::new(), 60, true, false)).unwrap();
        let text = String::from_utf8(text.out).unwrap();
        assert!(text.contains("\u{1b}[32m"), "{text}");
        for line in text.lines().filter(|line| line.contains('│')) {
            assert_eq!(measure_text_width(line), 60, "{line}");
            assert!(line.ends_with(['│', 'm']), "{line}");
        }
    }

    #[test]
    fn lines_of_a_peer_are_shown_by_themselves_and_do_nothing_to_a_terminal() {
        let shown = |quiet| {
            let mut text = Text::new(Vec::new(), WIDTH, false, quiet);
            Renderer::line(&mut text, Duration::ZERO, "  a\tb\u{1b}[2J ").unwrap();
            String::from_utf8(text.out).unwrap()
        };
        assert_eq!(shown(true), "  a\tb\\u{1b}[2J \n");
        assert_eq!(shown(false), "");
    }

    #[test]
    fn times_are_in_units_that_fit() {
        assert_eq!(time(Duration::from_micros(1_250)), "1.2 ms");
        assert_eq!(time(Duration::from_millis(9_999)), "9999.0 ms");
        assert_eq!(time(Duration::from_millis(12_340)), "12.3 s");
    }
}

//! For people: a line for each check, and what to do about it.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use console::{Style, Term};
use http::Uri;
use indicatif::{ProgressBar, ProgressStyle};
use timeline::words::{columns, counted, paragraph, printable};

use crate::{
    outcome::Verdict,
    report::{Ended, Renderer, Summary},
};

pub(crate) struct Text<W> {
    out: W,
    server: String,
    /// Nothing is told but what failed, and of the whole.
    quiet: bool,
    colour: bool,
    columns: usize,
    progress: ProgressBar,
    begun: bool,
    /// What failed or warns, for the end.
    bad: Vec<Bad>,
    /// By the reason, the first check that was skipped, and how many were.
    skipped: Vec<(String, String, u64)>,
}

struct Bad {
    verdict: Verdict,
    name: String,
    line: String,
    cause: String,
    remedy: String,
}

impl<W: Write> Text<W> {
    pub(crate) fn new(out: W, server: &Uri, quiet: bool, terminal: bool) -> Self {
        let colour = terminal && console::colors_enabled();
        let columns = if terminal { columns(&Term::stdout()) } else { None }.unwrap_or(usize::MAX);
        let progress = if quiet { ProgressBar::hidden() } else { progress() };
        let server = server.to_string();
        Self {
            out,
            server,
            quiet,
            colour,
            columns,
            progress,
            begun: false,
            bad: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// One paragraph, indented, after a word that says what it is.
    fn paragraph(&mut self, what: &str, text: &str) -> io::Result<()> {
        let heading = format!("{:10}{what:8}", "");
        writeln!(self.out, "{}", paragraph(&heading, &printable(text), self.columns.min(97)))
    }

    fn begin(&mut self) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            writeln!(self.out, "{}", self.server)?;
        }
        Ok(())
    }

    fn line(&self, verdict: Verdict, what: &str, told: &str) -> String {
        let style = match verdict {
            Verdict::Pass => Style::new().green(),
            Verdict::Warn => Style::new().yellow(),
            Verdict::Fail => Style::new().red().bold(),
            Verdict::Skip => Style::new().dim(),
        };
        let word = verdict.name();
        // What is marked by colour alone would be lost without it.
        let word = if verdict == Verdict::Fail { word.to_uppercase() } else { word.to_owned() };
        let word = style.force_styling(self.colour).apply_to(word);
        paragraph(&format!("{word:4}  {what:<28} "), &printable(told), self.columns).trim_end().to_owned()
    }
}

impl<W: Write + Send> Renderer for Text<W> {
    fn ended(&mut self, Ended { group, name, outcome, .. }: &Ended) -> io::Result<()> {
        self.progress.inc(1);
        let check = format!("{:<9} {name}", group.name());
        if outcome.verdict == Verdict::Skip {
            match self.skipped.iter_mut().find(|(reason, ..)| *reason == outcome.cause) {
                Some((.., count)) => *count += 1,
                None => self.skipped.push((outcome.cause.clone(), check, 1)),
            }
            return Ok(());
        }
        let line = self.line(outcome.verdict, &check, &outcome.figure);
        if matches!(outcome.verdict, Verdict::Warn | Verdict::Fail) {
            self.bad.push(Bad {
                verdict: outcome.verdict,
                name: format!("{}/{name}", group.name()),
                line: line.clone(),
                cause: outcome.cause.clone(),
                remedy: outcome.remedy.clone(),
            });
        }
        if self.quiet {
            return Ok(());
        }
        let progress = self.progress.clone();
        progress.suspend(|| {
            self.begin()?;
            writeln!(self.out, "{line}")?;
            if matches!(outcome.verdict, Verdict::Warn | Verdict::Fail) {
                self.paragraph("cause", &outcome.cause)?;
            }
            self.out.flush()
        })
    }

    /// Each reason to skip checks stands once. What failed comes last, where it is seen.
    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        self.progress.finish_and_clear();
        self.begin()?;
        let skipped = std::mem::take(&mut self.skipped);
        for (reason, check, count) in skipped.into_iter().filter(|_| !self.quiet) {
            let what = if count == 1 { check } else { counted(count, "check") };
            writeln!(self.out, "{}", self.line(Verdict::Skip, &what, &reason))?;
        }
        // Each remedy once, with the first check that it is for.
        let mut remedies = HashMap::new();
        let mut bad = std::mem::take(&mut self.bad);
        bad.sort_by_key(|bad| bad.verdict != Verdict::Fail);
        if !bad.is_empty() {
            writeln!(self.out)?;
        }
        for Bad { name, line, cause, remedy, .. } in &bad {
            writeln!(self.out, "{line}")?;
            self.paragraph("cause", cause)?;
            match remedies.get(remedy) {
                Some(first) => self.paragraph("remedy", &format!("as for {first}"))?,
                None => self.paragraph("remedy", remedy)?,
            }
            remedies.entry(remedy).or_insert(name);
        }
        let counts = Verdict::ALL.map(|verdict| format!("{} {}", summary.count(verdict), verdict.name()));
        let checks = counted(summary.counts.iter().sum(), "check");
        writeln!(self.out, "\n{checks} in {:.1} s: {}", summary.time.as_secs_f64(), counts.join(", "))?;
        self.out.flush()
    }
}

/// Counts what is done. Shown on a terminal alone.
fn progress() -> ProgressBar {
    const TICK: Duration = Duration::from_millis(100);
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} checks in {elapsed}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(TICK);
    progress
}

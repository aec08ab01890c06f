//! For people: a line for each check, and what to do about it.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use console::Style;
use http::Uri;
use indicatif::{ProgressBar, ProgressStyle};
use timeline::words::{counted, paragraph, printable};

use crate::{
    outcome::Verdict,
    report::{Ended, Renderer, Summary},
};

pub(crate) struct Text<W> {
    out: W,
    server: String,
    /// What passes is not told.
    quiet: bool,
    colour: bool,
    progress: ProgressBar,
    begun: bool,
    /// Each remedy once, with the first check that it is for.
    remedies: HashMap<String, String>,
}

impl<W: Write> Text<W> {
    pub(crate) fn new(out: W, server: &Uri, quiet: bool, terminal: bool) -> Self {
        let colour = terminal && console::colors_enabled();
        let progress = if quiet { ProgressBar::hidden() } else { progress() };
        Self {
            out,
            server: server.to_string(),
            quiet,
            colour,
            progress,
            begun: false,
            remedies: HashMap::new(),
        }
    }

    /// One paragraph, indented, after a word that says what it is.
    fn paragraph(&mut self, what: &str, text: &str) -> io::Result<()> {
        let heading = format!("{:10}{what:8}", "");
        writeln!(self.out, "{}", paragraph(&heading, &printable(text), 97))
    }

    fn begin(&mut self) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            writeln!(self.out, "{}", self.server)?;
        }
        Ok(())
    }
}

impl<W: Write + Send> Renderer for Text<W> {
    fn ended(&mut self, Ended { group, name, outcome, .. }: &Ended) -> io::Result<()> {
        self.progress.inc(1);
        if self.quiet && matches!(outcome.verdict, Verdict::Pass | Verdict::Skip) {
            return Ok(());
        }
        let progress = self.progress.clone();
        progress.suspend(|| {
            self.begin()?;
            let style = match outcome.verdict {
                Verdict::Pass => Style::new().green(),
                Verdict::Warn => Style::new().yellow(),
                Verdict::Fail => Style::new().red().bold(),
                Verdict::Skip => Style::new().dim(),
            };
            let word = outcome.verdict.name();
            // What is marked by colour alone would be lost without it.
            let word = if outcome.verdict == Verdict::Fail { word.to_uppercase() } else { word.to_owned() };
            let word = style.force_styling(self.colour).apply_to(word);
            let told = if outcome.verdict == Verdict::Skip { &outcome.cause } else { &outcome.figure };
            let line = format!("{word:4}  {:<9} {name:<18} {}", group.name(), printable(told));
            writeln!(self.out, "{}", line.trim_end())?;
            if matches!(outcome.verdict, Verdict::Warn | Verdict::Fail) {
                self.paragraph("cause", &outcome.cause)?;
                let first = self.remedies.get(&outcome.remedy).map(|first| format!("as for {first}"));
                self.paragraph("remedy", first.as_ref().unwrap_or(&outcome.remedy))?;
                let name = || format!("{}/{name}", group.name());
                self.remedies.entry(outcome.remedy.clone()).or_insert_with(name);
            }
            self.out.flush()
        })
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        self.progress.finish_and_clear();
        self.begin()?;
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

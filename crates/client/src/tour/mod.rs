//! The modes, explained and demonstrated by their scenarios: each mode's steps
//! are in its file.
//!
//! A demonstration leaves no trace in what people keep on the server: names and
//! devices are its own, its content has no name, and it removes what it has made.

mod bidi_streaming;
mod client_streaming;
mod content;
mod server_streaming;
mod step;
#[cfg(test)]
mod tests;
mod unary;

use std::{
    fmt,
    time::{Duration, Instant},
};

use grpc_wire::Mode;
use serde::Serialize;
use timeline::words::printable;
use tokio::time::timeout;

use self::step::Step;
use crate::{failure::Failure, scenario::Scenario, scenarios, session::Session};

/// All four modes, one after the other.
pub(crate) struct Tour {}

/// One mode.
pub(crate) struct Demonstration {
    pub(crate) mode: Mode,
}

/// What was shown, mode by mode.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    modes: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Shown {
    mode: &'static str,
    ok: bool,
    steps: Vec<Step>,
    milliseconds: f64,
    /// Why it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Each takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const STUCK: &str = "no response for a minute: all calls of a demonstration must reach the same server, but \
                     a balancer on the path spreads them";

impl Scenario for Demonstration {
    type Report = Report;

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut steps = Vec::new();
        let demonstrated = async {
            match self.mode {
                Mode::Unary => unary::demonstrate(session, &mut steps).await,
                Mode::ServerStreaming => server_streaming::demonstrate(session, &mut steps).await,
                Mode::ClientStreaming => client_streaming::demonstrate(session, &mut steps).await,
                Mode::BidiStreaming => bidi_streaming::demonstrate(session, &mut steps).await,
            }
        };
        let ended = timeout(PATIENCE, demonstrated).await.unwrap_or_else(|_| Err(Failure::answer(STUCK)));
        if ended.is_ok() {
            note_what_is_left_out(session, self.mode);
        }
        let milliseconds = begun.elapsed().as_micros() as f64 / 1e3;
        let error = ended.as_ref().err().map(|failure| format!("{}: {}", failure.code(), failure.message()));
        report.modes.push(Shown { mode: self.mode.name(), ok: ended.is_ok(), steps, milliseconds, error });
        ended
    }
}

fn note_what_is_left_out(session: &Session, mode: Mode) {
    for scenario in scenarios::of(mode) {
        if let Some(reason) = scenario.not_demonstrated {
            session.note(&format!("`{mode} {}` is not shown here: {reason}.", scenario.name));
        }
    }
}

impl Scenario for Tour {
    type Report = Report;

    /// All four, also when one fails; the first failure is the tour's.
    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        let mut ended = Ok(());
        for mode in Mode::ALL {
            let this = Demonstration { mode }.run(session, report).await;
            ended = ended.and(this);
        }
        ended
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, demonstration) in self.modes.iter().enumerate() {
            let took = humantime::format_duration(Duration::from_millis(demonstration.milliseconds as u64));
            let mark = if demonstration.ok { "ok" } else { "FAILED" };
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{:<18}{mark:<8}{took}", demonstration.mode)?;
            if let Some(error) = &demonstration.error {
                write!(f, "\n    {}", printable(error))?;
            }
            for step in &demonstration.steps {
                write!(f, "\n    {:<12}{}", step.scenario, step.shown)?;
            }
        }
        Ok(())
    }
}

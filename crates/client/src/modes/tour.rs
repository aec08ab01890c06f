//! The modes, explained and demonstrated: each mode's own steps are in its file.

use std::{
    fmt,
    time::{Duration, Instant},
};

use grpc_wire::Mode;
use serde::Serialize;
use timeline::words::printable;
use tokio::time::timeout;
use tonic::Code;

use super::{bidi_streaming, client_streaming, server_streaming, unary};
use crate::{failure::Failure, session::Session};

/// What was shown, mode by mode.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tour {
    modes: Vec<Demonstration>,
}

#[derive(Debug, Serialize)]
struct Demonstration {
    mode: &'static str,
    ok: bool,
    steps: Vec<Step>,
    milliseconds: f64,
    /// Why it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// One thing that was shown.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    scenario: &'static str,
    shown: String,
}

impl Step {
    pub(crate) fn new(scenario: &'static str, shown: impl Into<String>) -> Self {
        Self { scenario, shown: shown.into() }
    }
}

/// A step that shows how the server refuses something: success is a failure.
pub(crate) fn expect_code(
    scenario: &'static str,
    ended: Result<(), Failure>,
    code: Code,
    what: &str,
) -> Result<Step, Failure> {
    match ended {
        Err(failure) if failure.is_status(code) => {
            Ok(Step::new(scenario, format!("{what} is refused with {}", failure.code())))
        }
        Err(failure) => Err(failure),
        Ok(()) => Err(Failure::answer(format!("{what} was accepted"))),
    }
}

/// Each takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const STUCK: &str = "nothing more came for a minute: all calls of a demonstration have to reach one and the same \
    server, and a balancer on the way keeps them apart";

pub(crate) async fn demonstrate(session: &Session, mode: Mode, report: &mut Tour) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut steps = Vec::new();
    let demonstrated = async {
        match mode {
            Mode::Unary => unary::demonstrate(session, &mut steps).await,
            Mode::ServerStreaming => server_streaming::demonstrate(session, &mut steps).await,
            Mode::ClientStreaming => client_streaming::demonstrate(session, &mut steps).await,
            Mode::BidiStreaming => bidi_streaming::demonstrate(session, &mut steps).await,
        }
    };
    let ended = timeout(PATIENCE, demonstrated).await.unwrap_or_else(|_| Err(Failure::answer(STUCK)));
    let milliseconds = begun.elapsed().as_micros() as f64 / 1e3;
    let error = ended.as_ref().err().map(|failure| format!("{}: {}", failure.code(), failure.message()));
    report.modes.push(Demonstration { mode: mode.name(), ok: ended.is_ok(), steps, milliseconds, error });
    ended
}

/// All four, also when one fails; the first failure is the tour's.
pub(crate) async fn tour(session: &Session, report: &mut Tour) -> Result<(), Failure> {
    let mut ended = Ok(());
    for mode in Mode::ALL {
        let this = demonstrate(session, mode, report).await;
        ended = ended.and(this);
    }
    ended
}

impl fmt::Display for Tour {
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

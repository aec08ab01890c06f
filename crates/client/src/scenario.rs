//! What a scenario is, and how it runs.

use std::{fmt::Display, process::ExitCode};

use serde::Serialize;
use serde_json::Value;
use timeline::Timeline;

use crate::{config::Config, failure::Failure, session::Session, show, stop::stop};

/// What a user may ask for: its options are the fields of the type.
pub(crate) trait Scenario {
    /// What the user sees at the end, however the run ends. So the scenario keeps it up
    /// to date while it runs.
    type Report: Default + Serialize + Display;

    /// Why the demonstration of the mode leaves this scenario out.
    const NOT_DEMONSTRATED: Option<&'static str> = None;

    /// Checks the local preconditions before a server is contacted.
    fn check(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether the user wants lines without a diagram.
    fn is_plain(&self) -> bool {
        false
    }

    /// Whether stdout is reserved for the scenario's own output.
    fn takes_stdout(&self, _: &Config) -> bool {
        false
    }

    async fn run(&self, session: &Session, report: &mut Self::Report) -> Result<(), Failure>;
}

/// A scenario's name, and why its mode's demonstration leaves it out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) not_demonstrated: Option<&'static str>,
}

/// The mode's name for commands that belong to no single mode.
pub(crate) const ALL_MODES: &str = "all";
/// The name of a mode's own demonstration.
pub(crate) const DEMONSTRATION: &str = "demonstration";

/// One run of the client.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) config: &'a Config,
    /// The mode's name in the result.
    pub(crate) mode: &'static str,
}

/// How a run ended.
struct Outcome {
    shown: timeline::Outcome,
    failure: Option<Failure>,
}

impl Run<'_> {
    /// Runs a scenario until it is done, the time is up, the output's reader is gone or
    /// the user interrupts it. What the scenario has reported by then counts.
    pub(crate) async fn scenario<S: Scenario>(&self, name: &'static str, scenario: &S) -> ExitCode {
        let quiet = self.config.quiet || scenario.is_plain();
        let timeline = match show::timeline(self.config, quiet, scenario.takes_stdout(self.config)) {
            Ok(timeline) => timeline,
            Err(failure) => return failure.report(&self.tried(name)),
        };
        let calls = async |timeline: &Timeline, report: &mut Option<S::Report>| {
            scenario.check()?;
            let session = Session::open(self.config, timeline).await?;
            scenario.run(&session, report.insert(S::Report::default())).await
        };
        self.shown(name, &timeline, calls).await
    }

    /// The same for calls that need no session.
    pub(crate) async fn shown<R: Serialize + Display>(
        &self,
        name: &'static str,
        timeline: &Timeline,
        calls: impl AsyncFnOnce(&Timeline, &mut Option<R>) -> Result<(), Failure>,
    ) -> ExitCode {
        let outcome = self.outcome(name, timeline, calls).await;
        timeline.finish(&outcome.shown);
        let unwritten = || timeline.error().map(|error| Failure::unwritten(&error));
        match outcome.failure.or_else(unwritten) {
            Some(failure) => failure.report(&self.tried(name)),
            None => ExitCode::SUCCESS,
        }
    }

    async fn outcome<R: Serialize + Display>(
        &self,
        name: &'static str,
        timeline: &Timeline,
        calls: impl AsyncFnOnce(&Timeline, &mut Option<R>) -> Result<(), Failure>,
    ) -> Outcome {
        let stop = match stop(self.config.deadline) {
            Ok(stop) => stop,
            Err(failure) => return self.ended(name, None::<&R>, Err(failure)),
        };
        let mut report = None;
        let ended = tokio::select! {
            biased;
            failure = stop => Err(failure),
            () = timeline.broken() => Ok(()),
            ended = calls(timeline, &mut report) => ended,
        };
        let ended =
            ended.map_err(|failure| Failure { stage: timeline.stage(), ..failure }.after(timeline.lost()));
        self.ended(name, report.as_ref(), ended)
    }

    /// There is no report if the run ended before its scenario began.
    fn ended(
        &self,
        name: &'static str,
        report: Option<&(impl Serialize + Display)>,
        ended: Result<(), Failure>,
    ) -> Outcome {
        let failure = ended.err();
        let value = report.and_then(|report| serde_json::to_value(report).ok());
        let shown = timeline::Outcome {
            mode: self.mode,
            scenario: name,
            value: value.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
            text: report.map(ToString::to_string).unwrap_or_default(),
            failed: failure.as_ref().map(Failure::failed),
        };
        Outcome { shown, failure }
    }

    /// The command as it was typed, without its options, and its servers.
    fn tried(&self, scenario: &str) -> String {
        let command = match (self.mode, scenario) {
            (ALL_MODES, command) | (command, DEMONSTRATION) => command.to_owned(),
            (mode, scenario) => format!("{mode} {scenario}"),
        };
        self.config.tried(&command)
    }
}

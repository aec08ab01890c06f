//! What a scenario is, and how one is run.

use std::{fmt::Display, process::ExitCode};

use serde::Serialize;
use serde_json::Value;
use timeline::Timeline;

use crate::{config::Config, failure::Failure, session::Session, show, stop::stop};

/// What a user may ask for: its options are the fields of the type.
pub(crate) trait Scenario {
    /// What the user gets to see at the end, however the run ends: so it is kept
    /// up to date while the scenario runs.
    type Report: Default + Serialize + Display;

    /// Why the demonstration of its mode does without it.
    const NOT_DEMONSTRATED: Option<&'static str> = None;

    /// Looks at what is here, before a server is disturbed.
    fn check(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether the user wants lines and no diagram.
    fn is_plain(&self) -> bool {
        false
    }

    /// Whether stdout is for what the scenario hands on, and for nothing else.
    fn takes_stdout(&self, _: &Config) -> bool {
        false
    }

    async fn run(&self, session: &Session, report: &mut Self::Report) -> Result<(), Failure>;
}

/// A scenario's name, and what its file says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) not_demonstrated: Option<&'static str>,
}

/// The mode's name of what belongs to no single one.
pub(crate) const ALL_MODES: &str = "all";
/// The name of a mode's own demonstration.
pub(crate) const DEMONSTRATION: &str = "demonstration";

/// One run of the client.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) config: &'a Config,
    /// The mode's name, as it stands in the result.
    pub(crate) mode: &'static str,
}

/// How it ended.
struct Outcome {
    shown: timeline::Outcome,
    failure: Option<Failure>,
}

impl Run<'_> {
    /// Runs a scenario until it is done, the time is over, nobody watches any
    /// more or the user has had enough. What it has reported by then counts.
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

    /// Likewise calls that need no session.
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

    /// Without a report of what did not get to its scenario.
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

    /// The command as it was typed, without its options, and where.
    fn tried(&self, scenario: &str) -> String {
        let command = match (self.mode, scenario) {
            (ALL_MODES, command) | (command, DEMONSTRATION) => command.to_owned(),
            (mode, scenario) => format!("{mode} {scenario}"),
        };
        self.config.tried(&command)
    }
}

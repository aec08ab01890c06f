//! `check`: its options, and what they ask of a path.

use std::{process::ExitCode, time::Duration};

use check::{Group, Request, Run};
use clap::Args;

use crate::{
    config::Config,
    failure::Failure,
    options::{Options, Output},
    stop::stop,
    values::{deadline, trimmed},
};

/// Check whether the path to a server carries all four modes, and say what to change
///
/// One line per check. A Four Modes server at the end of the path supports all checks, because it
/// serves their probes. No check is repeated, and each ends in bounded time. Failures come last,
/// with what to change; --quiet shows only these.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The server, or the proxy before it [default: --server]
    #[arg(value_name = "URL", value_parser = trimmed)]
    url: Option<String>,
    /// Only the checks of this group; repeatable
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    only: Vec<Group>,
    /// Also check whether streams live for this long, such as 60s: a silent stream and a busy one
    #[arg(long, value_name = "DURATION", value_parser = deadline, allow_hyphen_values = true)]
    idle: Option<Duration>,
    /// Use only `grpc.testing.TestService`, which exists in every language; skip checks that it
    /// does not support
    #[arg(long)]
    standard: bool,
}

impl Check {
    /// Checks until it is done, the time is over, or the user has had enough.
    ///
    /// # Errors
    ///
    /// When the options make no sense.
    pub(crate) async fn run(self, options: Options) -> Result<ExitCode, String> {
        let Self { url, only, idle, standard } = self;
        let config = Config::at(url, options)?.without_frames("check")?;
        if config.servers.len() > 1 {
            return Err("check tests one path: name one server".to_owned());
        }
        if config.diagram.is_some() {
            return Err("check draws no diagram: omit --diagram".to_owned());
        }
        let output = match config.output {
            Output::Text => check::Output::Text { quiet: config.quiet },
            Output::Json => check::Output::Json,
            Output::Junit => check::Output::Junit,
        };
        let stop = match stop(config.deadline) {
            Ok(stop) => stop,
            Err(failure) => return Ok(failure.report(&config.tried("check"))),
        };
        let (server, connector) = (config.server(), config.connector.clone());
        let mut run = Run::new(Request { server, connector, only, idle, standard }, output);
        let ended = tokio::select! {
            biased;
            failure = stop => Err(failure),
            ended = run.look() => ended.map_err(Failure::from),
        };
        let told = run.finish(ended.as_ref().err().map(Failure::failed));
        Ok(match ended.and_then(|()| told.map_err(|error| Failure::unwritten(&error))) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(failure) => failure.report(&config.tried("check")),
        })
    }
}

impl From<check::Error> for Failure {
    fn from(error: check::Error) -> Self {
        match error {
            check::Error::Output(error) => Self::unwritten(&error),
            check::Error::CutShort(error) => Self::cut_short(&error),
        }
    }
}

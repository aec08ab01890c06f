//! `check`: looks at the path to a server.

use std::process::ExitCode;

use check::{Output, Request, Run};

use crate::{
    cli,
    config::{self, Config},
    failure::Failure,
    stop::stop,
};

/// Until it is done, the time is over, or the user has had enough.
pub(crate) async fn check(config: &Config, wanted: &config::Check) -> ExitCode {
    let output = match config.output {
        cli::Output::Text => Output::Text { quiet: config.quiet },
        cli::Output::Json => Output::Json,
        cli::Output::Junit => Output::Junit,
    };
    let stop = match stop(config.deadline) {
        Ok(stop) => stop,
        Err(failure) => return failure.report(&config.tried()),
    };
    let mut run = Run::new(
        Request {
            server: config.server(),
            connector: config.connector.clone(),
            only: wanted.only.clone(),
            idle: wanted.idle,
            standard: wanted.standard,
        },
        output,
    );
    let ended = tokio::select! {
        biased;
        failure = stop => Err(failure),
        ended = run.look() => ended.map_err(Failure::from),
    };
    let told = run.finish(ended.as_ref().err().map(Failure::failed));
    match ended.and_then(|()| told.map_err(|error| Failure::unwritten(&error))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => failure.report(&config.tried()),
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

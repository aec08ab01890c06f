//! `measure`: what a message costs in each pattern, on the path to a server.

use std::process::ExitCode;

use measure::{Error, Output, Request, Run};
use timeline::Stage;

use crate::{
    cli,
    config::{Config, Measure},
    failure::Failure,
    stop::stop,
};

/// Until it is done, the time is over, or the user has had enough.
pub(crate) async fn measure(config: &Config, wanted: &Measure) -> ExitCode {
    let output = match config.output {
        cli::Output::Json => Output::Json,
        // There is no report of this in JUnit's form.
        cli::Output::Text | cli::Output::Junit => Output::Text { quiet: config.quiet },
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
            amount: wanted.amount,
            size: wanted.size,
            concurrency: wanted.concurrency,
            connections: wanted.connections,
            rate: wanted.rate,
            warmup: wanted.warmup,
            plot: wanted.plot.clone(),
        },
        output,
    );
    let ended = tokio::select! {
        biased;
        failure = stop => Err(failure),
        ended = run.measure() => ended.map_err(Failure::from),
    };
    let tried = match run.during() {
        Some(during) => format!("{}, {during}", config.tried()),
        None => config.tried(),
    };
    let told = run.finish(ended.as_ref().err().map(Failure::failed));
    match ended.and(told.map_err(Failure::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&tried),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Call(error) => error.into(),
            Error::Unanswered(error) => Self { stage: Stage::Unanswered, ..error.into() },
            Error::Answer(message) => Self::answer(message),
            Error::Output(error) => Self::unwritten(&error),
            Error::Plot { file, error } => Self::output(&file.display().to_string(), &error),
            Error::CutShort(error) => Self::cut_short(&error),
        }
    }
}

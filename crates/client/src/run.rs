//! From a job to an exit code.

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde::Serialize;
use serde_json::Value;
use timeline::Timeline;

use crate::{
    cli::Cli,
    commands,
    config::{Config, Job},
    failure::Failure,
    modes::{
        bidi_streaming::{chat, sync},
        client_streaming,
        server_streaming::{self, quotes},
        tour, unary,
    },
    readings,
    session::Session,
    show,
    stop::stop,
};

/// Does what the user said. Results go to stdout, failures to stderr.
pub async fn run(cli: Cli) -> ExitCode {
    let job = match Job::try_from(cli.command) {
        Ok(job) => job,
        Err(shell) => return completions(shell),
    };
    let config = match Config::new(cli.options, job) {
        Ok(config) => config,
        Err(usage) => usage.exit(),
    };
    match &config.job {
        Job::Check(wanted) => return commands::check(&config, wanted).await,
        Job::Measure(wanted) => return commands::measure(&config, wanted).await,
        _ => {}
    }
    let (outcome, timeline) = match show::timeline(&config) {
        Ok(timeline) => (outcome(&config, &timeline).await, Some(timeline)),
        Err(failure) => (Outcome::new(&config.job, &Nothing {}, Err(failure)), None),
    };
    let unwritten = timeline.and_then(|timeline| {
        timeline.finish(&outcome.shown);
        timeline.error().map(|error| Failure::unwritten(&error))
    });
    match outcome.failure.or(unwritten) {
        Some(failure) => failure.report(&config.tried()),
        None => ExitCode::SUCCESS,
    }
}

fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fourmodes", &mut script);
    match io::stdout().write_all(&script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Failure::unwritten(&error).report("completions"),
    }
}

async fn outcome(config: &Config, timeline: &Timeline) -> Outcome {
    let task = Task { config, timeline };
    match &config.job {
        Job::Multiply { a, b } => {
            task.run(async |session, report| unary::multiply(session, *a, *b, report).await).await
        }
        Job::Status => task.run(unary::status).await,
        Job::Files => task.run(unary::files::files).await,
        Job::Submit { request, work } => {
            task.run(async |session, report| unary::submit(session, *request, work, report).await).await
        }
        Job::Task { id } => task.run(async |session, report| unary::task(session, *id, report).await).await,
        Job::Cancel { id } => {
            task.run(async |session, report| unary::cancel(session, *id, report).await).await
        }
        Job::Quotes(watch) => {
            task.run(async |session, report| quotes::quotes(session, watch, report).await).await
        }
        Job::System { interval, count } => {
            task.run(async |session, report| {
                server_streaming::system(session, *interval, *count, report).await
            })
            .await
        }
        Job::WatchTask { id } => {
            task.run(async |session, report| server_streaming::task(session, *id, report).await).await
        }
        Job::Log { file, from, count } => {
            task.run(async |session, report| {
                server_streaming::log(session, file, *from, *count, report).await
            })
            .await
        }
        Job::Download { name, output, force } => {
            match server_streaming::download::Plan::new(name, output.as_deref(), *force) {
                Ok(plan) => {
                    task.run(async |session, report| {
                        server_streaming::download::download(session, &plan, report).await
                    })
                    .await
                }
                Err(failure) => Outcome::new(&config.job, &Nothing {}, Err(failure)),
            }
        }
        Job::Upload { file, name, chunk } => {
            match client_streaming::upload::Plan::new(file, name.as_deref(), *chunk) {
                Ok(plan) => {
                    task.run(async |session, report| {
                        client_streaming::upload::upload(session, &plan, report).await
                    })
                    .await
                }
                Err(failure) => Outcome::new(&config.job, &Nothing {}, Err(failure)),
            }
        }
        // A file that is not there is no reason to disturb a server.
        Job::Readings { file, producer } => match readings::check(file) {
            Ok(()) => {
                task.run(async |session, report| {
                    client_streaming::readings::readings(session, file, producer.as_deref(), report).await
                })
                .await
            }
            Err(failure) => Outcome::new(&config.job, &Nothing {}, Err(failure)),
        },
        Job::Chat { room, name, since } => {
            task.run(async |session, report| chat::chat(session, room, name, *since, report).await).await
        }
        Job::Sync { file, document, once } => {
            task.run(async |session, report| sync::sync(session, file, document, *once, report).await).await
        }
        Job::Demonstration(mode) => {
            task.run(async |session, report| tour::demonstrate(session, *mode, report).await).await
        }
        Job::Tour => task.run(tour::tour).await,
        // They have renderers of their own.
        Job::Check(_) | Job::Measure(_) => Outcome::new(&config.job, &Nothing {}, Ok(())),
    }
}

struct Task<'a> {
    config: &'a Config,
    timeline: &'a Timeline,
}

impl Task<'_> {
    /// Runs a scenario until it is done, the time is over, nobody watches any
    /// more or the user has had enough. What it has reported by then counts.
    async fn run<R: Default + Serialize + Display>(
        &self,
        scenario: impl AsyncFnOnce(&Session, &mut R) -> Result<(), Failure>,
    ) -> Outcome {
        let Self { config, timeline } = self;
        let mut report = R::default();
        let stop = match stop(config.deadline) {
            Ok(stop) => stop,
            Err(failure) => return Outcome::new(&config.job, &report, Err(failure)),
        };
        let mut opened = false;
        let scenario = async {
            let session = Session::open(config, timeline).await?;
            opened = true;
            scenario(&session, &mut report).await
        };
        let ended = tokio::select! {
            biased;
            failure = stop => Err(failure),
            () = timeline.broken() => Ok(()),
            ended = scenario => ended,
        };
        let ended = ended.map_err(|failure| Failure { stage: timeline.stage(), ..failure });
        match opened {
            true => Outcome::new(&config.job, &report, ended),
            false => Outcome::new(&config.job, &Nothing {}, ended),
        }
    }
}

/// How a run ended.
struct Outcome {
    shown: timeline::Outcome,
    failure: Option<Failure>,
}

impl Outcome {
    fn new(job: &Job, report: &(impl Serialize + Display), ended: Result<(), Failure>) -> Self {
        let failure = ended.err();
        let shown = timeline::Outcome {
            mode: job.mode(),
            scenario: job.scenario(),
            value: serde_json::to_value(report).unwrap_or(Value::Null),
            text: report.to_string(),
            failed: failure.as_ref().map(Failure::failed),
        };
        Self { shown, failure }
    }
}

/// The report of a run that did not get to its scenario.
#[derive(Serialize)]
struct Nothing {}

impl Display for Nothing {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

//! `measure`: its options, and what they ask for.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use measure::{Amount, Error, Pattern, Request, Run};
use timeline::Stage;

use crate::{
    commands::call::{measured, service::Service},
    config::Config,
    failure::Failure,
    options::{Options, Output},
    stop::stop,
    values::{duration, trimmed},
};

/// Measure what a message costs in each mode, and recommend one
///
/// It does the same jobs in each way: deliver messages and know that they arrived, and receive
/// messages. The server must be a Four Modes server. --call measures one method of any server.
#[derive(Debug, Args)]
#[command(mut_group("Service", |options| options.requires("call")))]
pub(crate) struct Measure {
    /// The server, or the proxy before it [default: --server]
    #[arg(value_name = "URL", value_parser = trimmed)]
    pub(crate) url: Option<String>,
    /// Measure this method of any server, in the ways of its mode
    #[arg(long, value_name = "SERVICE/METHOD", value_parser = trimmed, conflicts_with = "size")]
    pub(crate) call: Option<String>,
    /// Messages for --call as JSON, @FILE, or @- for standard input; they are sent in turn
    #[arg(short, long, value_name = "JSON", requires = "call", allow_hyphen_values = true)]
    data: Option<String>,
    /// Messages in each call of a stream of requests [default: all in one call]
    #[arg(long, value_name = "N", requires = "call", value_parser = clap::value_parser!(u64).range(1..))]
    per_call: Option<u64>,
    /// Only this way; repeatable
    #[arg(long, value_delimiter = ',', value_name = "WAY")]
    only: Vec<Pattern>,
    /// Number of messages for each way [default: as many as pass in --duration]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000),
        allow_negative_numbers = true,
        conflicts_with = "duration"
    )]
    messages: Option<u64>,
    /// Duration of each way, at least 50ms, after a warm-up
    #[arg(
        long,
        default_value = "1s",
        value_name = "DURATION",
        value_parser = measurable,
        allow_hyphen_values = true
    )]
    duration: Duration,
    /// Size of a message, up to 16MiB. By default a server accepts 64 KiB in unary calls and 4 MiB
    /// in streams
    #[arg(
        long,
        default_value = "128",
        value_name = "SIZE",
        value_parser = message_size,
        allow_hyphen_values = true
    )]
    size: u64,
    /// Number of messages in flight, over all connections. By default a server accepts 100
    /// concurrent calls on a connection
    #[arg(
        long,
        default_value_t = 64,
        value_name = "K",
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        allow_negative_numbers = true
    )]
    concurrency: u32,
    /// Number of connections, each with its own stream
    #[arg(
        long,
        default_value_t = 1,
        value_name = "C",
        value_parser = clap::value_parser!(u32).range(1..=1000),
        allow_negative_numbers = true
    )]
    connections: u32,
    /// Send this many messages per second on a fixed schedule; times count from when a message is
    /// due [default: as fast as they are answered or accepted]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=10_000_000),
        allow_negative_numbers = true
    )]
    rate: Option<u64>,
    /// Duration of the warm-up
    #[arg(
        long,
        default_value = "200ms",
        value_name = "DURATION",
        value_parser = duration,
        allow_hyphen_values = true
    )]
    warmup: Duration,
    /// Also draw a chart
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Of --call")]
    pub(crate) service: Service,
}

impl Measure {
    /// Measures until it is done, the time is over, or the user has had enough.
    ///
    /// # Errors
    ///
    /// When the options make no sense.
    pub(crate) async fn run(self, options: Options) -> Result<ExitCode, String> {
        if self.url.is_none() && options.server.servers.len() > 1 {
            return Err("measure tests one path: name one server".to_owned());
        }
        let config = match &self.call {
            None => Config::at(self.url, options)?.without_frames("measure")?,
            Some(_) => {
                let target = self.url.unwrap_or_else(|| options.server.servers.concat());
                self.service.config(&target, options)?.without_frames("measure")?
            }
        };
        if config.diagram.is_some() {
            return Err("measure draws no diagram: omit --diagram, or use --plot".to_owned());
        }
        if config.output == Output::Junit {
            return Err("--output junit is only for check; use json".to_owned());
        }
        let connections = self.connections;
        if self.concurrency < connections {
            return Err(format!(
                "--connections {connections} needs --concurrency {connections} or more: some connections would be idle"
            ));
        }
        let output = match config.output {
            Output::Json => measure::Output::Json,
            Output::Text | Output::Junit => measure::Output::Text { quiet: config.quiet },
        };
        let mut stop = match stop(config.deadline) {
            Ok(stop) => pin!(stop),
            Err(failure) => return Ok(failure.report(&config.tried("measure"))),
        };
        if cfg!(debug_assertions) && !config.quiet {
            let warning = "warning: debug build: a release build is several times as fast\n";
            // Without a stderr nobody is there to be warned.
            let _ = io::stderr().write_all(warning.as_bytes());
        }
        let mut request = Request {
            server: config.server(),
            connector: config.connector.clone(),
            call: None,
            only: self.only,
            amount: self.messages.map_or(Amount::Duration(self.duration), Amount::Messages),
            size: self.size,
            concurrency: self.concurrency as usize,
            connections: connections as usize,
            rate: self.rate,
            warmup: self.warmup,
            plot: self.plot,
        };
        let is_foreign = self.call.is_some();
        let found = match &self.call {
            None => Ok(None),
            Some(symbol) => tokio::select! {
                biased;
                failure = &mut stop => Err(failure),
                found = measured::method(&self.service, &config, symbol, self.data.as_deref(), self.per_call) => {
                    found.map(Some)
                }
            },
        };
        let found = found.map(|call| request.call = call);
        let mut run = Run::new(request, output);
        let ended = match found {
            Err(failure) => Err(failure),
            Ok(()) => tokio::select! {
                biased;
                failure = stop => Err(failure),
                ended = run.measure() => ended.map_err(Failure::from),
            },
        };
        let ended = ended.map_err(|failure| Failure { is_foreign, ..failure });
        let tried = match run.during() {
            Some(during) => format!("{}, {during}", config.tried("measure")),
            None => config.tried("measure"),
        };
        let told = run.finish(ended.as_ref().err().map(Failure::failed));
        Ok(match ended.and(told.map_err(Failure::from)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(&tried),
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Call(error) => error.into(),
            Error::Unanswered(error) => Self { stage: Stage::Unanswered, ..error.into() },
            Error::Answer(message) => Self::answer(message),
            Error::NoWay(reason) => Self::unfit(reason, "leave --only out, or name other ways"),
            Error::Output(error) => Self::unwritten(&error),
            Error::Plot { file, error } => Self::output(&file.display().to_string(), &error),
            Error::Threads(error) => Self::threads(&error),
            Error::CutShort(error) => Self::cut_short(&error),
        }
    }
}

/// A shorter time has too few messages in it to say anything.
fn measurable(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_millis(50);
    match duration(text)? {
        enough if enough >= SHORTEST => Ok(enough),
        _ => Err("measure for 50ms at least".to_owned()),
    }
}

fn message_size(text: &str) -> Result<u64, String> {
    const LARGEST: u64 = 16 << 20;
    match shared_process::bytes(text)? {
        size if (1..=LARGEST).contains(&size) => Ok(size),
        size => Err(format!("{size} bytes are not from 1 to 16MiB, the maximum of a server")),
    }
}

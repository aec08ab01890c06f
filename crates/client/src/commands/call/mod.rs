//! `call`: any method of any server, by descriptors that are found when it runs.

mod corner;
mod exchange;
mod input;
mod listing;
pub(crate) mod measured;
mod report;
mod run;
pub(crate) mod service;

use std::{process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use schema::json::Names;

pub(crate) use self::corner::Corner;
use self::{
    input::{Input, Place},
    run::Run,
    service::Service,
};
use super::record::Record;
use crate::{
    failure::Failure,
    options::Options,
    stop::stop,
    values::{duration, trimmed},
};

/// Call any method of any gRPC server, or list its services
///
/// Without a method, it lists the services, or shows a service or a message. The message types come
/// from the server's reflection, or from --proto or --descriptors.
#[derive(Debug, Args)]
pub(crate) struct Call {
    /// The server: host:port without TLS, https://host[:port], or unix:///path
    #[arg(value_parser = trimmed)]
    pub(crate) target: String,
    /// Method to call, as package.Service/Method; or a service or message to show
    #[arg(value_name = "SERVICE[/METHOD]", value_parser = trimmed)]
    pub(crate) symbol: Option<String>,
    /// The message as JSON, several one after the other, or @FILE, or @- for standard input
    #[arg(short, long, value_name = "JSON", allow_hyphen_values = true, conflicts_with_all = ["data_binary", "interactive"])]
    data: Option<String>,
    /// Encoded messages in gRPC's framing: a zero byte, the length in four bytes, the message
    #[arg(long, value_name = "@FILE", conflicts_with = "interactive")]
    data_binary: Option<String>,
    /// Type messages, one per line; Ctrl-D ends them
    #[arg(long)]
    interactive: bool,
    /// Pause between messages
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pace: Option<Duration>,
    /// Send no half-close: the call lasts until the server or Ctrl-C ends it
    #[arg(long)]
    keep_open: bool,
    /// Make the call N times in sequence, and stop at the first failure
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), hide_default_value = true)]
    repeat: u64,
    /// Compress requests
    #[arg(long, value_name = "ENCODING")]
    compress: Option<Compression>,
    /// Maximum size of a response message
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = shared_process::bytes)]
    max_message: u64,
    #[command(flatten)]
    pub(crate) service: Service,
    /// Print a JSON template of the request, without a call
    #[arg(long)]
    template: bool,
    /// Use the proto's field names in place of lowerCamelCase
    #[arg(long)]
    proto_names: bool,
    /// Also show headers and trailers
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    record: Record,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compression {
    Gzip,
    Zstd,
}

impl Call {
    /// Calls until it is done, the time is over, or the user has had enough.
    ///
    /// # Errors
    ///
    /// When the options make no sense.
    pub(crate) async fn run(self, options: Options) -> Result<ExitCode, String> {
        let config = self.service.config(&self.target, options)?;
        let input = self.input()?;
        let tried = match &self.symbol {
            Some(symbol) => format!("call {} {symbol}", self.target),
            None => format!("call {}", self.target),
        };
        let mut run = Run::new(&self, &config, input);
        let ended = match stop(config.deadline) {
            Err(failure) => Err(failure),
            Ok(stop) => tokio::select! {
                biased;
                failure = stop => Err(failure),
                ended = run.go() => ended,
            },
        };
        let ended = run.finish(ended.map_err(|failure| Failure { is_foreign: true, ..failure })).await;
        Ok(match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(&tried),
        })
    }

    fn input(&self) -> Result<Input, String> {
        let input = match (&self.data, &self.data_binary) {
            _ if self.interactive => Input::Typed,
            (Some(data), _) => Input::Json(Place::of(data)),
            (_, Some(data)) => match Place::of(data) {
                Place::Text(_) => return Err("--data-binary takes @FILE or @-".to_owned()),
                place => Input::Binary(place),
            },
            (None, None) => Input::Nothing,
        };
        if self.repeat > 1 && !input.is_repeatable() {
            return Err(
                "--repeat sends the same messages again, but typed or piped input can be read only once"
                    .to_owned(),
            );
        }
        Ok(input)
    }

    fn names(&self) -> Names {
        if self.proto_names { Names::Proto } else { Names::Json }
    }

    /// What is to be called or shown.
    fn wanted(&self) -> Option<(&str, Option<&str>)> {
        self.symbol.as_deref().map(service::wanted)
    }
}

//! Options for every command. Those that describe an environment may come from
//! it. A field's name is the option's, so that it clashes with none of a scenario.

use std::{env, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use grpc_wire::code_name;
use tonic::Code;
use transport::{Abort, Delay, retry::MOST_ATTEMPTS};

use crate::values::{deadline, duration, trimmed};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
    #[command(flatten)]
    pub(crate) tls: TlsOptions,
    #[command(flatten)]
    pub(crate) retry: RetryOptions,
    #[command(flatten)]
    pub(crate) keepalive: KeepaliveOptions,
    #[command(flatten)]
    pub(crate) faults: FaultOptions,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerOptions {
    /// Server to call, with https:// for TLS. Several servers, separated by commas or in several
    /// --server options, are called round-robin. So are all addresses of a name:
    /// dns:///name:port, or dns+https://name:port for TLS
    #[arg(
        long = "server",
        env = "FOURMODES_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:50051",
        value_name = "URL",
        value_delimiter = ',',
        value_parser = trimmed,
        global = true
    )]
    pub(crate) servers: Vec<String>,

    /// The token to call with, for a server that wants one. Not a flag: those
    /// of a process are for everyone to see
    #[arg(skip = env::var("FOURMODES_TOKEN").ok().filter(|token| !token.is_empty()))]
    pub(crate) token: Option<String>,

    /// File with the token; FOURMODES_TOKEN has the token itself
    #[arg(long, env = "FOURMODES_TOKEN_FILE", hide_env_values = true, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,

    /// Time limit for the whole call [default: 5s for unary, none for streams and `call`]
    #[arg(long, value_name = "DURATION", value_parser = deadline, allow_hyphen_values = true, global = true)]
    pub(crate) deadline: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputOptions {
    /// Format of stdout: text, JSON lines, or for `check` a JUnit report
    #[arg(
        long,
        env = "FOURMODES_OUTPUT",
        hide_env_values = true,
        default_value = "text",
        value_name = "FORMAT",
        global = true
    )]
    pub(crate) output: Output,

    /// Print only the result, no diagram
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    /// Also write a Mermaid sequence diagram
    #[arg(long, value_name = "FILE.mmd", global = true)]
    pub(crate) diagram: Option<PathBuf>,

    /// Also draw HTTP/2 frames: settings, windows, pings, header compression
    #[arg(long, global = true)]
    pub(crate) frames: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
    Junit,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsOptions {
    /// Trust only the CAs in this PEM file [default: the CAs of this machine]
    #[arg(long, env = "FOURMODES_CA", hide_env_values = true, value_name = "FILE", global = true)]
    pub(crate) ca: Option<PathBuf>,

    /// Client certificate in PEM, for servers that ask for one
    #[arg(long, env = "FOURMODES_CERT", hide_env_values = true, value_name = "FILE", global = true)]
    pub(crate) cert: Option<PathBuf>,

    /// The private key of --cert, in PEM
    #[arg(long, env = "FOURMODES_KEY", hide_env_values = true, value_name = "FILE", global = true)]
    pub(crate) key: Option<PathBuf>,

    /// Whether any of them was typed: one from the environment may well be for
    /// other servers.
    #[arg(skip)]
    pub(crate) is_typed: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Retry")]
pub(crate) struct RetryOptions {
    /// How long to try to reconnect after a lost connection; 0s gives up at once
    #[arg(
        long,
        default_value = "30s",
        value_name = "DURATION",
        value_parser = duration,
        allow_hyphen_values = true,
        global = true
    )]
    pub(crate) reconnect: Duration,

    /// Maximum attempts for a unary call, from 1 to 5; retries when the server is unavailable or
    /// the connection is lost [default: 5; for `call` 1]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=MOST_ATTEMPTS.into()),
        hide_possible_values = true,
        allow_negative_numbers = true,
        global = true
    )]
    pub(crate) max_attempts: Option<u32>,

    /// Wait until the server is reachable: until the deadline, or without one for --reconnect
    #[arg(long, global = true)]
    pub(crate) wait_for_ready: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Keepalive")]
pub(crate) struct KeepaliveOptions {
    /// Send a keepalive ping after this much silence [default: 10s; for `call` never, because many
    /// servers forbid it]
    #[arg(
        long,
        env = "FOURMODES_KEEPALIVE_INTERVAL",
        hide_env_values = true,
        value_name = "DURATION",
        value_parser = deadline,
        global = true
    )]
    pub(crate) keepalive_interval: Option<Duration>,

    /// Time limit for the answer to a ping; then the connection counts as lost
    #[arg(
        long,
        env = "FOURMODES_KEEPALIVE_TIMEOUT",
        hide_env_values = true,
        default_value = "5s",
        value_name = "DURATION",
        value_parser = deadline,
        global = true
    )]
    pub(crate) keepalive_timeout: Duration,
}

/// The server has to run with --allow-faults.
#[derive(Debug, Args)]
#[command(next_help_heading = "Faults, of a server with --allow-faults")]
pub(crate) struct FaultOptions {
    /// Ask the server to fail calls with this status, such as `UNAVAILABLE`, or `UNAVAILABLE:30`
    /// for 30 %
    #[arg(long, value_name = "CODE[:PERCENT]", value_parser = abort, global = true)]
    pub(crate) fault_abort: Option<Abort>,

    /// Ask the server to delay answers, such as `200ms`, or `200ms:30` for 30 %
    #[arg(long, value_name = "DURATION[:PERCENT]", value_parser = delay, global = true)]
    pub(crate) fault_delay: Option<Delay>,
}

fn abort(text: &str) -> Result<Abort, String> {
    let (name, percent) = share(text)?;
    match code(name)? {
        Code::Ok => Err("OK aborts nothing".to_owned()),
        code => Ok(Abort { code, percent }),
    }
}

/// A status by its name.
pub(crate) fn code(name: &str) -> Result<Code, String> {
    let named = (0..=16).map(Code::from_i32).find(|code| name.eq_ignore_ascii_case(code_name(*code)));
    named.ok_or_else(|| format!("{name:?} is no status, such as UNAVAILABLE"))
}

fn delay(text: &str) -> Result<Delay, String> {
    let (time, percent) = share(text)?;
    Ok(Delay { time: duration(time)?, percent })
}

fn share(text: &str) -> Result<(&str, u32), String> {
    let Some((what, percent)) = text.split_once(':') else { return Ok((text, 100)) };
    let percent = percent.parse().ok().filter(|percent| (0..=100).contains(percent));
    Ok((what, percent.ok_or("after the colon comes a number from 0 to 100")?))
}

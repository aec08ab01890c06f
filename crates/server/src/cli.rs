//! What a user may say to the server.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Parser, Subcommand};
use etcetera::{BaseStrategy as _, choose_base_strategy};
use shared_proto::Mode;

use crate::config::{Config, Data};

/// A server for gRPC's four communication modes.
///
/// Health (grpc.health.v1) and reflection (v1 and v1alpha) are served with
/// every mode. The first line on stdout is the address; the log goes to
/// stderr, each message at RUST_LOG=debug.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// IP address and port to listen on; port 0 takes any free port
    #[arg(
        long,
        env = "FOURMODES_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:50051",
        value_name = "ADDRESS",
        global = true
    )]
    pub listen: SocketAddr,

    /// How long open calls may go on after SIGINT or SIGTERM
    #[arg(
        long,
        env = "FOURMODES_GRACE",
        hide_env_values = true,
        default_value = "10s",
        value_name = "DURATION",
        value_parser = humantime::parse_duration,
        allow_hyphen_values = true,
        global = true
    )]
    pub grace: Duration,

    /// Where the state is kept, a directory that is this server's own;
    /// `:memory:` forgets everything at the end [default: fourmodes in the
    /// platform's directory for state]
    #[arg(long, env = "FOURMODES_DATA_DIR", hide_env_values = true, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,

    /// Seed of the simulated quotes: the same seed gives the same prices
    #[arg(
        long,
        env = "FOURMODES_QUOTES_SEED",
        hide_env_values = true,
        default_value_t = 1,
        value_name = "N",
        global = true
    )]
    pub quotes_seed: u64,

    /// A directory whose files may be followed with `log`: all that it contains,
    /// and nothing else [default: none may]
    #[arg(long, env = "FOURMODES_LOG_ROOT", hide_env_values = true, value_name = "DIR", global = true)]
    pub log_root: Option<PathBuf>,

    /// What to serve
    #[command(subcommand)]
    pub modes: Modes,
}

/// What to serve: one mode, or all.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Modes {
    /// One request, one response: multiply, status, files, submit, task,
    /// cancel, the tutorial's Greeter
    Unary,
    /// One request, many responses: quotes, download, system, task, log, the
    /// tutorial's StreamService
    ServerStreaming,
    /// Many requests, one response: readings, upload
    ClientStreaming,
    /// Many requests, many responses: chat, sync
    BidiStreaming,
    /// All four
    All,
}

const EXIT_CODES: &str = "Exit status:
  0  stopped by a signal, every call ended or the grace period over
  1  could not start
  2  wrong usage
A second signal ends the process at once.";

impl TryFrom<Cli> for Config {
    type Error = NoHome;

    fn try_from(cli: Cli) -> Result<Self, NoHome> {
        Ok(Self {
            listen: cli.listen,
            grace: cli.grace,
            quotes_seed: cli.quotes_seed,
            data: data(cli.data_dir)?,
            log_root: cli.log_root,
            modes: match cli.modes {
                Modes::Unary => vec![Mode::Unary],
                Modes::ServerStreaming => vec![Mode::ServerStreaming],
                Modes::ClientStreaming => vec![Mode::ClientStreaming],
                Modes::BidiStreaming => vec![Mode::BidiStreaming],
                Modes::All => Mode::ALL.to_vec(),
            },
            ..Self::default()
        })
    }
}

/// The platform does not say where programs keep their state.
#[derive(Debug, thiserror::Error)]
#[error("there is no home directory to keep the state in; choose a place with --data-dir, or :memory:")]
pub struct NoHome;

fn data(directory: Option<PathBuf>) -> Result<Data, NoHome> {
    match directory {
        Some(directory) if directory == Path::new(":memory:") => Ok(Data::Memory),
        Some(directory) => Ok(Data::Directory(directory)),
        None => {
            let platform = choose_base_strategy().map_err(|_| NoHome)?;
            let state = platform.state_dir().unwrap_or_else(|| platform.data_dir());
            Ok(Data::Directory(state.join("fourmodes")))
        }
    }
}

//! What a user may say to the client.

use std::ffi::OsString;

use clap::{
    Command as CommandLine, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, parser::ValueSource,
};
use shared_process::Describe;

use crate::{
    commands::{
        call::Call, check::Check, measure::Measure, net_rpc::NetRpc, replay::Replay, show::Show, watch::Watch,
    },
    options::Options,
    scenarios::{BidiStreaming, ClientStreaming, ServerStreaming, Unary},
};

/// A client for gRPC's four communication modes.
///
/// It draws each call as a sequence diagram while it runs. Results go to stdout, errors and
/// progress to stderr.
#[derive(Debug, Parser)]
#[command(name = "fourmodes", bin_name = "fourmodes", version = env!("VERSION_AND_COMMIT"), about, max_term_width = 100, after_help = AFTERWORD)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The command line as its help shows it.
    #[must_use]
    pub fn readable() -> CommandLine {
        shared_process::readable(Self::command(), HINT)
    }

    /// What these arguments say, of which the first is the program's name.
    ///
    /// # Errors
    ///
    /// What to tell the user, which may be the help that was asked for.
    pub fn read<A: Into<OsString> + Clone>(
        arguments: impl IntoIterator<Item = A>,
    ) -> clap::error::Result<Self> {
        let mut command = Self::readable();
        let matches = command.try_get_matches_from_mut(arguments)?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        let is_typed = |option: &&str| matches.value_source(option) == Some(ValueSource::CommandLine);
        cli.options.tls.is_typed = ["ca", "cert", "key"].iter().any(is_typed);
        Ok(cli)
    }
}

pub(crate) const HINT: &str = "Options for every command, such as --server: fourmodes --help";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One request, one response
    ///
    /// Without a scenario, explains and demonstrates the mode.
    Unary {
        #[command(subcommand)]
        scenario: Option<Unary>,
    },
    /// One request, many responses
    ///
    /// Without a scenario, explains and demonstrates the mode.
    ServerStreaming {
        #[command(subcommand)]
        scenario: Option<ServerStreaming>,
    },
    /// Many requests, one response
    ///
    /// Without a scenario, explains and demonstrates the mode.
    ClientStreaming {
        #[command(subcommand)]
        scenario: Option<ClientStreaming>,
    },
    /// Many requests, many responses
    ///
    /// Without a scenario, explains and demonstrates the mode.
    BidiStreaming {
        #[command(subcommand)]
        scenario: Option<BidiStreaming>,
    },
    /// Demonstrate and explain all four modes
    Tour,
    Call(Box<Call>),
    Check(Check),
    #[command(visible_alias = "bench")]
    Measure(Box<Measure>),
    NetRpc(NetRpc),
    Watch(Box<Watch>),
    Show(Box<Show>),
    Replay(Replay),
    #[command(flatten)]
    Describe(Describe),
}

const AFTERWORD: &str = "Several servers:
  Unary calls go round-robin, starting at a random server. The servers must be interchangeable
  replicas. The client skips a server that is unreachable, fails, or reports by grpc.health.v1 that
  it does not serve, for 1s and up to 30s. Another server takes the call. Each server keeps its own
  state: streams and submissions return to their own server, and the other servers do not know its
  tasks, rooms and files.

Exit status:
    0  success; `check`: no check failed
    1  the call or a check failed, `replay` found a difference, or the output could not be
       written
    2  wrong usage
    3  bad input; nothing was sent, or the call was cancelled
  130  interrupted
  141  stdout was closed";

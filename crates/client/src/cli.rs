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

/// Shows gRPC's four communication modes at work.
///
/// Every call is drawn as a sequence diagram while it happens. Results go to
/// stdout, errors and progress to stderr.
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
    /// Without a scenario the mode is explained and demonstrated.
    Unary {
        #[command(subcommand)]
        scenario: Option<Unary>,
    },
    /// One request, many responses
    ///
    /// Without a scenario the mode is explained and demonstrated.
    ServerStreaming {
        #[command(subcommand)]
        scenario: Option<ServerStreaming>,
    },
    /// Many requests, one response
    ///
    /// Without a scenario the mode is explained and demonstrated.
    ClientStreaming {
        #[command(subcommand)]
        scenario: Option<ClientStreaming>,
    },
    /// Many requests, many responses
    ///
    /// Without a scenario the mode is explained and demonstrated.
    BidiStreaming {
        #[command(subcommand)]
        scenario: Option<BidiStreaming>,
    },
    /// All four modes, one after the other, explained
    Tour,
    Call(Box<Call>),
    Check(Check),
    #[command(visible_alias = "bench")]
    Measure(Measure),
    NetRpc(NetRpc),
    Watch(Box<Watch>),
    Show(Box<Show>),
    Replay(Replay),
    #[command(flatten)]
    Describe(Describe),
}

const AFTERWORD: &str = "Several servers:
  Each has its turn, from a random one on, once it says by grpc.health.v1 that it serves, if it has
  that. One that cannot be reached or fails is left out, for 1s and up to 30s, and another one takes
  the call. That is for servers of which one is as good as another. What a server keeps is there
  alone: a stream that has begun comes back to its own server, as does a submission, and the others
  do not know its tasks, rooms and files.

Exit status:
    0  done; of `check`: nothing failed
    1  the call failed, a check did, `replay` found a difference, or the output could not be
       written
    2  wrong usage
    3  the input could not be used; nothing was sent, or the call was cancelled
  130  interrupted
  141  nobody reads stdout any more";

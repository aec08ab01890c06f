//! What a user may say to the client.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Shows gRPC's four communication modes at work.
///
/// Every call is drawn as a sequence diagram while it happens. Results go to
/// stdout, errors and progress to stderr.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXIT_STATUS)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options for every command")]
pub(crate) struct Options {
    /// The server to call
    #[arg(
        long,
        env = "FOURMODES_SERVER",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL",
        global = true
    )]
    pub(crate) server: String,

    /// What stdout gets: a diagram for people or JSON lines for programs
    #[arg(long, env = "FOURMODES_OUTPUT", default_value = "text", value_name = "FORMAT", global = true)]
    pub(crate) output: Output,

    /// Also write what happened as a Mermaid sequence diagram
    #[arg(long, env = "FOURMODES_DIAGRAM", value_name = "FILE.mmd", global = true)]
    pub(crate) diagram: Option<PathBuf>,

    /// How long all of it may take [default: 5s for unary, none for streams]
    #[arg(long, env = "FOURMODES_DEADLINE", value_name = "DURATION", value_parser = deadline, global = true)]
    pub(crate) deadline: Option<Duration>,

    /// The result only, without what led to it
    #[arg(
        long,
        short,
        env = "FOURMODES_QUIET",
        value_parser = clap::builder::FalseyValueParser::new(),
        global = true
    )]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One request, one response
    Unary {
        #[command(subcommand)]
        scenario: Option<Unary>,
    },
    /// One request, many responses
    ServerStreaming {
        #[command(subcommand)]
        scenario: Option<ServerStreaming>,
    },
    /// Many requests, one response
    ClientStreaming {
        #[command(subcommand)]
        scenario: Option<ClientStreaming>,
    },
    /// Many requests, many responses
    BidiStreaming {
        #[command(subcommand)]
        scenario: Option<BidiStreaming>,
    },
    /// All four modes, one after the other, explained
    Tour,
    /// Print a completion script for a shell
    Completions { shell: Shell },
}

/// Without a scenario: the mode, explained and demonstrated.
#[derive(Debug, Subcommand)]
pub(crate) enum Unary {
    /// Multiply two integers
    Multiply {
        #[arg(allow_negative_numbers = true)]
        a: i64,
        #[arg(allow_negative_numbers = true)]
        b: i64,
    },
    /// Ask what the server is and what it is doing
    Status,
}

/// Without a scenario: the mode, explained and demonstrated.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerStreaming {
    /// Watch simulated market quotes
    Quotes {
        /// What to watch, separated by commas [default: every listed symbol]
        #[arg(long, value_delimiter = ',', value_name = "SYMBOLS")]
        symbols: Vec<String>,
        /// How many quotes; 0 goes on until Ctrl-C
        #[arg(long, default_value_t = 10, value_name = "N")]
        count: u64,
        /// Time between two quotes; 0s sends as fast as flow control allows
        #[arg(long, default_value = "100ms", value_name = "DURATION", value_parser = duration)]
        interval: Duration,
    },
    /// Watch the load of the server's process and machine
    System {
        /// Time between two samples, at least 200ms
        #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = duration)]
        interval: Duration,
        /// How many samples; 0 goes on until Ctrl-C
        #[arg(long, default_value_t = 5, value_name = "N")]
        count: u64,
    },
}

/// Without a scenario: the mode, explained and demonstrated.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientStreaming {
    /// Deliver readings of devices, get statistics
    Readings {
        /// CSV with the columns device,time,value or JSON lines with these
        /// keys; `-` reads standard input. Times are RFC 3339 or Unix seconds
        file: PathBuf,
    },
}

/// Without a scenario: the mode, explained and demonstrated.
#[derive(Debug, Subcommand)]
pub(crate) enum BidiStreaming {
    /// Talk in a room: each line of standard input is a post, its end leaves
    Chat {
        #[arg(long)]
        room: String,
        #[arg(long)]
        name: String,
    },
}

const EXIT_STATUS: &str = "Exit status:
    0  done
    1  the call failed, or the output could not be written
    2  wrong usage
    3  the input file could not be used
  130  interrupted
  141  nobody reads stdout any more";

fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number with a unit, such as 500ms, 5s or 2m"))?;
    if duration > LONGEST {
        return Err("a year is the longest that makes sense here".to_owned());
    }
    Ok(duration)
}

fn deadline(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("a call cannot be over before it begins; give it at least 1ms".to_owned()),
        deadline => Ok(deadline),
    }
}

//! What a user may say to the client.

use std::{path::PathBuf, time::Duration};

use check::Group;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use grpc_wire::code_name;
use measure::Pattern;
use shared_proto::limits::CHUNK_BYTES;
use tonic::Code;
use transport::{Abort, Delay, retry::MOST_ATTEMPTS};
use uuid::Uuid;

/// Shows gRPC's four communication modes at work.
///
/// Every call is drawn as a sequence diagram while it happens. Results go to
/// stdout, errors and progress to stderr.
#[derive(Debug, Parser)]
#[command(name = "fourmodes", bin_name = "fourmodes", version, about, max_term_width = 100, after_help = AFTERWORD)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options for every command")]
pub(crate) struct Options {
    /// The server to call, https:// for one with TLS; several, separated by commas
    /// or each with a --server of its own, have their turns
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

    /// Trust servers whose certificate is of a CA in this file of PEM, and no
    /// others [default: those of a CA that this machine trusts]
    #[arg(long, env = "FOURMODES_CA", hide_env_values = true, value_name = "FILE", global = true)]
    pub(crate) ca: Option<PathBuf>,

    /// The certificate to show to a server that asks for one, in PEM
    #[arg(long, env = "FOURMODES_CERT", hide_env_values = true, value_name = "FILE", global = true)]
    pub(crate) cert: Option<PathBuf>,

    /// The private key of --cert, in PEM
    #[arg(long, env = "FOURMODES_KEY", hide_env_values = true, value_name = "FILE", global = true)]
    pub(crate) key: Option<PathBuf>,

    /// What stdout gets: text for people, JSON lines for programs, or, of `check`
    /// alone, a report as JUnit has it
    #[arg(
        long,
        env = "FOURMODES_OUTPUT",
        hide_env_values = true,
        default_value = "text",
        value_name = "FORMAT",
        global = true
    )]
    pub(crate) output: Output,

    /// Also write what happened as a Mermaid sequence diagram
    #[arg(long, env = "FOURMODES_DIAGRAM", hide_env_values = true, value_name = "FILE.mmd", global = true)]
    pub(crate) diagram: Option<PathBuf>,

    /// How long all of it may take [default: 5s for unary, none for streams]
    #[arg(
        long,
        env = "FOURMODES_DEADLINE",
        hide_env_values = true,
        value_name = "DURATION",
        value_parser = deadline,
        allow_hyphen_values = true,
        global = true
    )]
    pub(crate) deadline: Option<Duration>,

    /// How long to try to come back when a connection is lost; 0s gives up at once
    #[arg(
        long,
        env = "FOURMODES_RECONNECT",
        hide_env_values = true,
        default_value = "30s",
        value_name = "DURATION",
        value_parser = duration,
        allow_hyphen_values = true,
        global = true
    )]
    pub(crate) reconnect: Duration,

    /// After how long without a frame the server is asked whether it is there
    #[arg(
        long,
        env = "FOURMODES_KEEPALIVE_INTERVAL",
        hide_env_values = true,
        default_value = "10s",
        value_name = "DURATION",
        value_parser = deadline,
        global = true
    )]
    pub(crate) keepalive_interval: Duration,

    /// How long its answer may take; then the connection is lost
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

    /// The token to call with, for a server that wants one. Not a flag: those
    /// of a process are for everyone to see
    #[arg(skip = std::env::var("FOURMODES_TOKEN").ok())]
    pub(crate) token: Option<String>,

    /// A file that has the token to call with; FOURMODES_TOKEN has the token itself
    #[arg(long, env = "FOURMODES_TOKEN_FILE", hide_env_values = true, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,

    /// Ask the server to end calls with this status, such as `UNAVAILABLE`, or
    /// `UNAVAILABLE:30` for 30 of 100; it has to run with --allow-faults
    #[arg(
        long,
        env = "FOURMODES_FAULT_ABORT",
        hide_env_values = true,
        value_name = "CODE[:PERCENT]",
        value_parser = abort,
        global = true
    )]
    pub(crate) fault_abort: Option<Abort>,

    /// Ask the server to wait before it answers calls, such as `200ms`, or
    /// `200ms:30` for 30 of 100; likewise
    #[arg(
        long,
        env = "FOURMODES_FAULT_DELAY",
        hide_env_values = true,
        value_name = "DURATION[:PERCENT]",
        value_parser = delay,
        global = true
    )]
    pub(crate) fault_delay: Option<Delay>,

    /// How often a unary call is made at most, from 1 to 5: again when its server
    /// is unavailable or was lost
    #[arg(
        long,
        env = "FOURMODES_MAX_ATTEMPTS",
        hide_env_values = true,
        default_value_t = MOST_ATTEMPTS,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=MOST_ATTEMPTS.into()),
        hide_possible_values = true,
        allow_negative_numbers = true,
        global = true
    )]
    pub(crate) max_attempts: u32,

    /// Wait for a server that is not there yet, until the deadline, or without
    /// one for as long as --reconnect says
    #[arg(
        long,
        env = "FOURMODES_WAIT_FOR_READY",
        hide_env_values = true,
        value_parser = clap::builder::FalseyValueParser::new(),
        global = true
    )]
    pub(crate) wait_for_ready: bool,

    /// The result only, without what led to it
    #[arg(
        long,
        short,
        env = "FOURMODES_QUIET",
        hide_env_values = true,
        value_parser = clap::builder::FalseyValueParser::new(),
        global = true
    )]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
    Junit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Delivery {
    /// Every quote, however late
    Every,
    /// Of each symbol the latest one
    Latest,
}

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
    /// Look whether the path to a server carries all four modes, and say what to change
    ///
    /// One line a check, as it ends. What the path does shows best with a Four
    /// Modes server at its end; it serves the probes that the checks call.
    /// Nothing is tried again, and every check ends in bounded time.
    Check {
        /// The server, or what is before it [default: the one of --server]
        #[arg(value_name = "URL", value_parser = trimmed)]
        url: Option<String>,
        /// Only the checks of this group; may be given several times
        #[arg(
            long,
            env = "FOURMODES_ONLY",
            hide_env_values = true,
            value_delimiter = ',',
            value_name = "GROUP"
        )]
        only: Vec<Group>,
        /// Look as well whether a stream lives for so long, such as 60s: one that is
        /// silent, and one that is not
        #[arg(
            long,
            env = "FOURMODES_IDLE",
            hide_env_values = true,
            value_name = "DURATION",
            value_parser = deadline,
            allow_hyphen_values = true
        )]
        idle: Option<Duration>,
        /// Call `grpc.testing.TestService` alone, which servers in every language
        /// have; what it cannot tell is left out
        #[arg(
            long,
            env = "FOURMODES_STANDARD",
            hide_env_values = true,
            value_parser = clap::builder::FalseyValueParser::new()
        )]
        standard: bool,
    },
    /// Measure what a message costs in each way that gRPC has, and say which one to take
    ///
    /// The same job in each way: to deliver messages and to know that they have
    /// arrived, and to receive them. The server has to be a Four Modes server.
    #[command(visible_alias = "bench")]
    Measure {
        /// The server, or what is before it [default: the one of --server]
        #[arg(value_name = "URL", value_parser = trimmed)]
        url: Option<String>,
        /// Only this way; may be given several times
        #[arg(
            long,
            env = "FOURMODES_ONLY",
            hide_env_values = true,
            value_delimiter = ',',
            value_name = "WAY"
        )]
        only: Vec<Pattern>,
        /// How many messages each way [default: as many as pass in --duration]
        #[arg(
            long,
            env = "FOURMODES_MESSAGES",
            hide_env_values = true,
            value_name = "N",
            value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000),
            allow_negative_numbers = true,
            conflicts_with = "duration"
        )]
        messages: Option<u64>,
        /// How long each way, from 50ms on; a warm-up comes before it
        #[arg(
            long,
            env = "FOURMODES_DURATION",
            hide_env_values = true,
            default_value = "1s",
            value_name = "DURATION",
            value_parser = measurable,
            allow_hyphen_values = true
        )]
        duration: Duration,
        /// How long a message is, up to 16MiB. A server takes 64 KiB by unary calls
        /// and 4 MiB by streams, unless it was told otherwise
        #[arg(
            long,
            env = "FOURMODES_SIZE",
            hide_env_values = true,
            default_value = "128",
            value_name = "SIZE",
            value_parser = message_size,
            allow_hyphen_values = true
        )]
        size: u64,
        /// How many messages are in flight at the same time, over all connections, where
        /// it is not one at a time. A server takes 100 calls at a time on a connection
        #[arg(
            long,
            env = "FOURMODES_CONCURRENCY",
            hide_env_values = true,
            default_value_t = 64,
            value_name = "K",
            value_parser = clap::value_parser!(u32).range(1..=100_000),
            allow_negative_numbers = true
        )]
        concurrency: u32,
        /// How many connections, each with a stream of its own, where it is not one at a time
        #[arg(
            long,
            env = "FOURMODES_CONNECTIONS",
            hide_env_values = true,
            default_value_t = 1,
            value_name = "C",
            value_parser = clap::value_parser!(u32).range(1..=1000),
            allow_negative_numbers = true
        )]
        connections: u32,
        /// Send so many messages a second, each at its time, whatever has become of those
        /// before; times count from then on [default: as fast as they are answered or taken]
        #[arg(
            long,
            env = "FOURMODES_RATE",
            hide_env_values = true,
            value_name = "N",
            value_parser = clap::value_parser!(u64).range(1..=10_000_000),
            allow_negative_numbers = true
        )]
        rate: Option<u64>,
        /// How long each way is used before it is measured
        #[arg(
            long,
            env = "FOURMODES_WARMUP",
            hide_env_values = true,
            default_value = "200ms",
            value_name = "DURATION",
            value_parser = duration,
            allow_hyphen_values = true
        )]
        warmup: Duration,
        /// Also draw it
        #[arg(long, env = "FOURMODES_PLOT", hide_env_values = true, value_name = "FILE.svg")]
        plot: Option<PathBuf>,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Unary {
    /// Multiply two integers
    Multiply {
        /// One factor, a signed 64-bit integer
        #[arg(allow_negative_numbers = true)]
        a: i64,
        /// The other one
        #[arg(allow_negative_numbers = true)]
        b: i64,
    },
    /// Ask what the server is and what it is doing
    Status,
    /// List the files that were uploaded
    Files,
    /// Give the server a task; it goes on when this call has ended
    Submit {
        #[command(subcommand)]
        work: Work,
        /// Makes a task once, however often it is submitted: use it again when
        /// you do not know what became of a submission [default: a new UUID]
        #[arg(
            long,
            env = "FOURMODES_REQUEST_ID",
            hide_env_values = true,
            value_name = "UUID",
            value_parser = uuid,
            global = true
        )]
        request_id: Option<Uuid>,
    },
    /// Ask how a task is getting on
    Task {
        /// What `submit` said
        #[arg(value_parser = uuid)]
        id: Uuid,
    },
    /// End a task before its time
    Cancel {
        /// What `submit` said
        #[arg(value_parser = uuid)]
        id: Uuid,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Work {
    /// Count the prime numbers below a bound
    Primes {
        /// The bound, at most 100000000000
        #[arg(
            long,
            env = "FOURMODES_BELOW",
            hide_env_values = true,
            value_name = "N",
            allow_negative_numbers = true
        )]
        below: u64,
    },
    /// Compute the BLAKE3 checksum of an uploaded file
    Checksum {
        /// The name that the upload was committed under
        #[arg(long, env = "FOURMODES_RESOURCE", hide_env_values = true, value_name = "NAME")]
        resource: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerStreaming {
    /// Watch simulated market quotes
    Quotes {
        /// What to watch, separated by commas [default: every symbol there is:
        /// ACME, BOLT, CORA, DUNE, ECHO, FLUX]
        #[arg(
            long,
            env = "FOURMODES_SYMBOLS",
            hide_env_values = true,
            value_delimiter = ',',
            value_name = "SYMBOLS",
            value_parser = trimmed
        )]
        symbols: Vec<String>,
        /// How many quotes; 0 goes on until Ctrl-C
        #[arg(
            long,
            env = "FOURMODES_COUNT",
            hide_env_values = true,
            default_value_t = 10,
            value_name = "N",
            allow_negative_numbers = true
        )]
        count: u64,
        /// Time between two quotes, at most; 0s sends as fast as flow control allows
        #[arg(
            long,
            env = "FOURMODES_INTERVAL",
            hide_env_values = true,
            default_value = "100ms",
            value_name = "DURATION",
            value_parser = duration,
            allow_hyphen_values = true
        )]
        interval: Duration,
        /// The first quote, by its number [default: the next one that is made]
        #[arg(long, env = "FOURMODES_FROM_SEQUENCE", hide_env_values = true, value_name = "N")]
        from_sequence: Option<u64>,
        /// What to get when the feed is faster than this client
        #[arg(
            long,
            env = "FOURMODES_DELIVERY",
            hide_env_values = true,
            default_value = "every",
            value_name = "WHICH"
        )]
        delivery: Delivery,
    },
    /// Watch the load of the server's process and machine
    System {
        /// Time between two samples, at least 200ms
        #[arg(
            long,
            env = "FOURMODES_INTERVAL",
            hide_env_values = true,
            default_value = "1s",
            value_name = "DURATION",
            value_parser = duration,
            allow_hyphen_values = true
        )]
        interval: Duration,
        /// How many samples; 0 goes on until Ctrl-C
        #[arg(
            long,
            env = "FOURMODES_COUNT",
            hide_env_values = true,
            default_value_t = 5,
            value_name = "N",
            allow_negative_numbers = true
        )]
        count: u64,
    },
    /// Download a file; the same command again goes on where it was
    Download {
        /// What it was uploaded as, or blobs/BLAKE3/SIZE for certain content
        name: String,
        /// Where to write it [default: its name, here]. Until it is whole and
        /// has its checksum, it is in a file that ends in .part
        #[arg(long, short, env = "FOURMODES_OUTPUT_FILE", hide_env_values = true, value_name = "FILE")]
        output_file: Option<PathBuf>,
        /// Replace a file that is there
        #[arg(
            long,
            env = "FOURMODES_FORCE",
            hide_env_values = true,
            value_parser = clap::builder::FalseyValueParser::new()
        )]
        force: bool,
    },
    /// Watch a task until it has ended
    Task {
        /// What `unary submit` said
        #[arg(value_parser = uuid)]
        id: Uuid,
    },
    /// Follow a log file on the server, like `tail -F`
    ///
    /// With --quiet the lines themselves go to stdout, as they come.
    Log {
        /// Path below the server's --log-root
        file: String,
        /// Where to begin: end, start, or a number of bytes to skip
        #[arg(
            long,
            env = "FOURMODES_FROM",
            hide_env_values = true,
            default_value = "end",
            value_name = "PLACE",
            value_parser = place,
            allow_negative_numbers = true
        )]
        from: Place,
        /// After how many lines to stop; 0 goes on until Ctrl-C
        #[arg(
            long,
            env = "FOURMODES_COUNT",
            hide_env_values = true,
            default_value_t = 0,
            value_name = "N",
            allow_negative_numbers = true
        )]
        count: u64,
    },
}

/// Where in a log to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    End,
    Start,
    Offset(u64),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClientStreaming {
    /// Deliver readings of devices, get statistics over all that the server has
    ///
    /// Each reading counts once: the same file again, after a failure or by
    /// mistake, adds only what the server has not.
    Readings {
        /// CSV with the columns device,time,value or JSON lines with these
        /// keys; `-` reads standard input. Times are RFC 3339 or Unix seconds
        file: PathBuf,
        /// Under which name the readings are numbered. Whoever uses it again must
        /// deliver the same again [default: a checksum of the file; for what can
        /// be read only once, a new one]
        #[arg(
            long,
            env = "FOURMODES_PRODUCER",
            hide_env_values = true,
            value_name = "NAME",
            allow_hyphen_values = true
        )]
        producer: Option<String>,
    },
    /// Upload a file; the same command again goes on where it was
    Upload {
        /// The file; its size and checksum go ahead, so it cannot be `-`
        file: PathBuf,
        /// What it is to be called there [default: the name of the file]
        #[arg(long, env = "FOURMODES_FILE_NAME", hide_env_values = true, allow_hyphen_values = true)]
        name: Option<String>,
        /// How much goes into a message, from 1KiB to 2MiB
        #[arg(
            long,
            env = "FOURMODES_CHUNK",
            hide_env_values = true,
            default_value = "256KiB",
            value_name = "SIZE",
            value_parser = chunk,
            allow_hyphen_values = true
        )]
        chunk: usize,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BidiStreaming {
    /// Talk in a room: each line of standard input is a post, its end leaves
    Chat {
        /// Which room; it opens with its first member
        #[arg(long, env = "FOURMODES_ROOM", hide_env_values = true, allow_hyphen_values = true)]
        room: String,
        /// Under which name; nobody else in the room may have it
        #[arg(long, env = "FOURMODES_NAME", hide_env_values = true, allow_hyphen_values = true)]
        name: String,
        /// How much to hear of what was said before, in events
        #[arg(
            long,
            env = "FOURMODES_HISTORY",
            hide_env_values = true,
            default_value_t = 20,
            value_name = "N"
        )]
        history: u64,
        /// Hear everything after this event, by its number; 0 from the beginning
        #[arg(
            long,
            env = "FOURMODES_AFTER_SEQUENCE",
            hide_env_values = true,
            value_name = "N",
            conflicts_with = "history"
        )]
        after_sequence: Option<u64>,
    },
    /// Keep a text file in step with those of others, until Ctrl-C
    ///
    /// Edit it with any editor, also while the client or the server is away.
    /// What is needed to tell an edit is kept next to it, in `.FILE.sync`.
    Sync {
        /// UTF-8 of up to 1 MiB; written when there is none
        file: PathBuf,
        /// With which document [default: the file's name]
        #[arg(
            long,
            env = "FOURMODES_DOCUMENT",
            hide_env_values = true,
            value_name = "NAME",
            allow_hyphen_values = true
        )]
        document: Option<String>,
        /// End when file and document are the same, on the server's disk
        #[arg(
            long,
            env = "FOURMODES_ONCE",
            hide_env_values = true,
            value_parser = clap::builder::FalseyValueParser::new()
        )]
        once: bool,
    },
}

const AFTERWORD: &str = "Several servers:
  Each has its turn, from a random one on, once it says by grpc.health.v1 that it serves, if it has
  that. One that cannot be reached or fails is left out, for 1s and up to 30s, and another one takes
  the call. That is for servers of which one is as good as another. What a server keeps is there
  alone: a stream that has begun comes back to its own server, as does a submission, and the others
  do not know its tasks, rooms and files.

Exit status:
    0  done; of `check`: nothing failed
    1  the call failed, or a check did, or the output could not be written
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
    let deadline = duration(text)?;
    if deadline < Duration::from_millis(1) {
        return Err("no server can be that fast; give it at least 1ms".to_owned());
    }
    Ok(deadline)
}

fn uuid(text: &str) -> Result<Uuid, String> {
    let parsed = Uuid::try_parse(text).ok().filter(|uuid| !uuid.is_nil());
    parsed.ok_or_else(|| "write a UUID such as 7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42".to_owned())
}

fn place(text: &str) -> Result<Place, String> {
    match text {
        "end" => Ok(Place::End),
        "start" => Ok(Place::Start),
        number => {
            let offset = number.parse().map(Place::Offset);
            offset.map_err(|_| "write end, start, or a number of bytes such as 4096".to_owned())
        }
    }
}

fn abort(text: &str) -> Result<Abort, String> {
    let (name, percent) = share(text)?;
    let named = (1..=16).map(Code::from_i32).find(|code| name.eq_ignore_ascii_case(code_name(*code)));
    let code = named.ok_or_else(|| format!("{name:?} is no status, such as UNAVAILABLE"))?;
    Ok(Abort { code, percent })
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

fn chunk(text: &str) -> Result<usize, String> {
    const SMALLEST: usize = 1 << 10;
    match usize::try_from(shared_process::bytes(text)?).unwrap_or(usize::MAX) {
        size if (SMALLEST..=CHUNK_BYTES).contains(&size) => Ok(size),
        size => Err(format!("{size} bytes are not from 1KiB to 2MiB, half of what a server takes at once")),
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
        size => Err(format!("{size} bytes are not from 1 to 16MiB, the most that a server sends at once")),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants a parser that could fail")]
fn trimmed(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text.trim().to_owned())
}

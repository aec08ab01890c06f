//! What the client may rely on.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use check::Group;
use clap::CommandFactory as _;
use clap_complete::Shell;
use grpc_wire::Mode;
use http::Uri;
use measure::{Amount, Pattern};
use transport::{Connector, Identity, OutgoingMetadata, TlsFiles, is_tls};
use uuid::Uuid;

pub(crate) use crate::cli::Delivery;
use crate::cli::{self, Cli, Command, Options, Output, Place, Work};

/// What a unary call may take when the user says nothing.
pub(crate) const UNARY_DEADLINE: Duration = Duration::from_secs(5);

/// One run of the client, validated.
#[derive(Debug)]
pub(crate) struct Config {
    /// At least one.
    pub(crate) servers: Vec<Uri>,
    pub(crate) connector: Connector,
    pub(crate) output: Output,
    pub(crate) diagram: Option<PathBuf>,
    pub(crate) deadline: Option<Duration>,
    /// How long to try to come back when a connection is lost.
    pub(crate) reconnect: Duration,
    /// How often a unary call is made, from 1.
    pub(crate) max_attempts: u32,
    /// Whether to wait for a server that is not there yet.
    pub(crate) wait_for_ready: bool,
    pub(crate) quiet: bool,
    pub(crate) job: Job,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Job {
    Multiply { a: i64, b: i64 },
    Status,
    Submit { request: Uuid, work: Work },
    Task { id: Uuid },
    Cancel { id: Uuid },
    Quotes(Watch),
    System { interval: Duration, count: u64 },
    WatchTask { id: Uuid },
    Log { file: String, from: Place, count: u64 },
    Files,
    Download { name: String, output: Option<PathBuf>, force: bool },
    Readings { file: PathBuf, producer: Option<String> },
    Upload { file: PathBuf, name: Option<String>, chunk: usize },
    Chat { room: String, name: String, since: Since },
    Sync { file: PathBuf, document: String, once: bool },
    Demonstration(Mode),
    Tour,
    Check(Check),
    Measure(Measure),
}

/// What is asked of a path.
#[derive(Debug)]
pub(crate) struct Check {
    /// Instead of the server that every command has.
    pub(crate) url: Option<String>,
    /// All, when it is empty.
    pub(crate) only: Vec<Group>,
    /// How long a stream is to live, if that is to be known.
    pub(crate) idle: Option<Duration>,
    /// Whether `grpc.testing.TestService` is to be called.
    pub(crate) standard: bool,
}

/// What is to be measured.
#[derive(Debug)]
pub(crate) struct Measure {
    /// Instead of the server that every command has.
    pub(crate) url: Option<String>,
    /// All, when it is empty.
    pub(crate) only: Vec<Pattern>,
    /// Of each pattern.
    pub(crate) amount: Amount,
    /// Of a message, in bytes.
    pub(crate) size: u64,
    /// How many are in flight over all connections together.
    pub(crate) concurrency: usize,
    pub(crate) connections: usize,
    /// Messages for each second, of an open loop.
    pub(crate) rate: Option<u64>,
    /// Before each measurement.
    pub(crate) warmup: Duration,
    pub(crate) plot: Option<PathBuf>,
}

/// Which quotes to watch, and how.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    /// Empty means every one there is.
    pub(crate) symbols: Vec<String>,
    /// 0 means without end.
    pub(crate) count: u64,
    pub(crate) interval: Duration,
    /// The first one; without it the next one that is made.
    pub(crate) from_sequence: Option<u64>,
    pub(crate) delivery: Delivery,
}

/// Where a member of a room begins to hear.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Since {
    /// So many events before its own joining.
    History(u64),
    /// With the event after this one.
    After(u64),
}

impl Job {
    /// The mode's name, as it stands in the result.
    pub(crate) fn mode(&self) -> &'static str {
        match self {
            Self::Multiply { .. }
            | Self::Status
            | Self::Files
            | Self::Submit { .. }
            | Self::Task { .. }
            | Self::Cancel { .. } => Mode::Unary.name(),
            Self::Quotes { .. }
            | Self::System { .. }
            | Self::WatchTask { .. }
            | Self::Log { .. }
            | Self::Download { .. } => Mode::ServerStreaming.name(),
            Self::Readings { .. } | Self::Upload { .. } => Mode::ClientStreaming.name(),
            Self::Chat { .. } | Self::Sync { .. } => Mode::BidiStreaming.name(),
            Self::Demonstration(mode) => mode.name(),
            Self::Tour | Self::Check(_) | Self::Measure(_) => "all",
        }
    }

    /// The scenario's name, as it stands in the result.
    pub(crate) fn scenario(&self) -> &'static str {
        match self {
            Self::Multiply { .. } => "multiply",
            Self::Status => "status",
            Self::Files => "files",
            Self::Submit { .. } => "submit",
            Self::Task { .. } | Self::WatchTask { .. } => "task",
            Self::Cancel { .. } => "cancel",
            Self::Log { .. } => "log",
            Self::Quotes(_) => "quotes",
            Self::System { .. } => "system",
            Self::Download { .. } => "download",
            Self::Readings { .. } => "readings",
            Self::Upload { .. } => "upload",
            Self::Chat { .. } => "chat",
            Self::Sync { .. } => "sync",
            Self::Demonstration(_) => "demonstration",
            Self::Tour => "tour",
            Self::Check(_) => "check",
            Self::Measure(_) => "measure",
        }
    }
}

/// As on the command line, without what is specific to a run.
impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tour | Self::Check(_) | Self::Measure(_) => f.write_str(self.scenario()),
            Self::Demonstration(mode) => f.write_str(mode.name()),
            _ => write!(f, "{} {}", self.mode(), self.scenario()),
        }
    }
}

impl Config {
    /// # Errors
    ///
    /// When something in `options` makes no sense.
    pub(crate) fn new(options: Options, job: Job) -> Result<Self, clap::Error> {
        let wrong = |message| Cli::command().error(clap::error::ErrorKind::ValueValidation, message);
        let server =
            |text: &String| server_uri(text).map_err(|reason| wrong(format!("--server {text}: {reason}")));
        let url = match &job {
            Job::Check(Check { url, .. }) | Job::Measure(Measure { url, .. }) => {
                url.as_ref().map(std::slice::from_ref)
            }
            _ => None,
        };
        let servers: Vec<Uri> =
            url.unwrap_or(&options.servers).iter().map(server).collect::<Result<_, _>>()?;
        match &job {
            Job::Check(_) if servers.len() > 1 => {
                return Err(wrong("check looks at one path: name one server".to_owned()));
            }
            Job::Check(_) if options.diagram.is_some() => {
                return Err(wrong("check draws no diagram: leave --diagram out".to_owned()));
            }
            Job::Check(_) => {}
            Job::Measure(_) if servers.len() > 1 => {
                return Err(wrong("measure looks at one path: name one server".to_owned()));
            }
            Job::Measure(_) if options.diagram.is_some() => {
                return Err(wrong("measure draws no diagram: leave --diagram out, or use --plot".to_owned()));
            }
            Job::Measure(wanted) if wanted.concurrency < wanted.connections => {
                let connections = wanted.connections;
                return Err(wrong(format!(
                    "--connections {connections} needs --concurrency {connections} or more: some connections would be idle"
                )));
            }
            _ if options.output == Output::Junit => {
                return Err(wrong("--output junit is for check alone; use json".to_owned()));
            }
            _ => {}
        }
        let token = match (&options.token_file, &options.token) {
            (Some(file), _) => Some(read_token(file).map_err(wrong)?),
            (None, token) => token.clone(),
        };
        let metadata = OutgoingMetadata::new(token.as_deref(), options.fault_abort, options.fault_delay);
        let metadata = Arc::new(metadata.map_err(wrong)?);
        let is_https = servers.iter().any(is_tls);
        let tls = tls_files(options.ca, options.cert, options.key, is_https).map_err(wrong)?;
        let connector = Connector {
            tls,
            keepalive_interval: options.keepalive_interval,
            keepalive_timeout: options.keepalive_timeout,
            metadata,
        };
        let demonstration = matches!(job, Job::Demonstration(_));
        let unary = job.mode() == Mode::Unary.name() && !demonstration;
        Ok(Self {
            servers,
            connector,
            output: options.output,
            diagram: options.diagram,
            deadline: options.deadline.or(unary.then_some(UNARY_DEADLINE)),
            reconnect: options.reconnect,
            max_attempts: options.max_attempts,
            wait_for_ready: options.wait_for_ready,
            quiet: options.quiet,
            job,
        })
    }
}

impl Config {
    /// The one server of a command that has no use for several.
    pub(crate) fn server(&self) -> Uri {
        self.servers.first().cloned().unwrap_or_default()
    }

    /// For people: what was done, and where.
    pub(crate) fn tried(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        format!("{} at {}", self.job, servers.join(", "))
    }
}

/// The one command that is no job asks for a shell's completions.
impl TryFrom<Command> for Job {
    type Error = Shell;

    fn try_from(command: Command) -> Result<Self, Shell> {
        Ok(match command {
            Command::Unary { scenario } => match scenario {
                Some(cli::Unary::Multiply { a, b }) => Self::Multiply { a, b },
                Some(cli::Unary::Status) => Self::Status,
                Some(cli::Unary::Submit { work, request_id }) => {
                    Self::Submit { request: request_id.unwrap_or_else(Uuid::new_v4), work }
                }
                Some(cli::Unary::Task { id }) => Self::Task { id },
                Some(cli::Unary::Cancel { id }) => Self::Cancel { id },
                Some(cli::Unary::Files) => Self::Files,
                None => Self::Demonstration(Mode::Unary),
            },
            Command::ServerStreaming { scenario } => match scenario {
                Some(cli::ServerStreaming::Quotes { symbols, count, interval, from_sequence, delivery }) => {
                    Self::Quotes(Watch { symbols, count, interval, from_sequence, delivery })
                }
                Some(cli::ServerStreaming::System { interval, count }) => Self::System { interval, count },
                Some(cli::ServerStreaming::Task { id }) => Self::WatchTask { id },
                Some(cli::ServerStreaming::Log { file, from, count }) => Self::Log { file, from, count },
                Some(cli::ServerStreaming::Download { name, output_file: output, force }) => {
                    Self::Download { name, output, force }
                }
                None => Self::Demonstration(Mode::ServerStreaming),
            },
            Command::ClientStreaming { scenario } => match scenario {
                Some(cli::ClientStreaming::Readings { file, producer }) => Self::Readings { file, producer },
                Some(cli::ClientStreaming::Upload { file, name, chunk }) => {
                    Self::Upload { file, name, chunk }
                }
                None => Self::Demonstration(Mode::ClientStreaming),
            },
            Command::BidiStreaming { scenario } => match scenario {
                Some(cli::BidiStreaming::Chat { room, name, history, after_sequence }) => {
                    let since = after_sequence.map_or(Since::History(history), Since::After);
                    Self::Chat { room, name, since }
                }
                Some(cli::BidiStreaming::Sync { file, document, once }) => {
                    let name = || file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let document = document.unwrap_or_else(name);
                    Self::Sync { file, document, once }
                }
                None => Self::Demonstration(Mode::BidiStreaming),
            },
            Command::Tour => Self::Tour,
            Command::Check { url, only, idle, standard } => Self::Check(Check { url, only, idle, standard }),
            Command::Measure {
                url,
                only,
                messages,
                duration,
                size,
                concurrency,
                connections,
                rate,
                warmup,
                plot,
            } => Self::Measure(Measure {
                url,
                only,
                amount: messages.map_or(Amount::Duration(duration), Amount::Messages),
                size,
                concurrency: concurrency as usize,
                connections: connections as usize,
                rate,
                warmup,
                plot,
            }),
            Command::Completions { shell } => return Err(shell),
        })
    }
}

fn tls_files(
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    is_https: bool,
) -> Result<TlsFiles, String> {
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        _ => return Err("--cert and --key go together: give both, or neither".to_owned()),
    };
    if !is_https && (ca.is_some() || identity.is_some()) {
        return Err(
            "--ca, --cert and --key mean nothing without TLS; write --server https://host:port".to_owned()
        );
    }
    Ok(TlsFiles { ca, identity })
}

fn read_token(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("--token-file {}: {error}", file.display()))
}

/// `host:port` is taken for `http://host:port`.
fn server_uri(text: &str) -> Result<Uri, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = url.parse().map_err(|error| format!("{error}; write it as http://host:port"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        scheme => {
            let scheme = scheme.unwrap_or("nothing");
            return Err(format!("{scheme} is no scheme for gRPC; use http:// or https://"));
        }
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') || text.contains('#') {
        return Err("a user name or a fragment means nothing here; write it as http://host:port".to_owned());
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    if has_port && uri.port_u16().is_none() {
        return Err("a port is a number from 1 to 65535".to_owned());
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err("there is no host in it; write it as http://host:port".to_owned());
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("gRPC has its own paths; write it as http://host:port".to_owned());
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_given_by_host_and_port() {
        let uri = |text| server_uri(text).map(|uri| uri.to_string());
        assert_eq!(uri("http://127.0.0.1:50051").as_deref(), Ok("http://127.0.0.1:50051/"));
        assert_eq!(uri("localhost:1").as_deref(), Ok("http://localhost:1/"));
        assert_eq!(uri("[::1]:1").as_deref(), Ok("http://[::1]:1/"));
        assert_eq!(uri("https://x").as_deref(), Ok("https://x/"));
        assert_eq!(uri("http://[::1]").as_deref(), Ok("http://[::1]/"));
        for wrong in [
            "",
            "ftp://x",
            "http://",
            "http://x/path",
            "http://x?q",
            "http://x:99999",
            "http://x:",
            "http://u@x:1",
            "http://x:1#f",
            "http://a b",
        ] {
            assert!(uri(wrong).is_err(), "{wrong}");
        }
    }
}

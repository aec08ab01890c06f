//! What a user may say to the server.

use std::{
    net::SocketAddr,
    num::NonZero,
    path::{Path, PathBuf},
    thread::available_parallelism,
    time::Duration,
};

use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use etcetera::{BaseStrategy as _, choose_base_strategy};
use grpc_wire::Mode;
use http::{HeaderValue, Uri};

use crate::config::{Config, Data, Limits, Retention, TlsFiles, Tokens, UploadLimits};

/// A server for gRPC's four communication modes.
///
/// Health (grpc.health.v1), reflection (v1 and v1alpha), probes
/// (fourmodes.v1.ProbeService), measuring (fourmodes.v1.MeasureService) and the
/// interop service (grpc.testing.TestService) are served with every mode, all of
/// it also by gRPC-Web. The first line on stdout is the address; the log goes to
/// stderr, each message at RUST_LOG=debug.
#[derive(Debug, Parser)]
#[command(name = "fourmodes-server", bin_name = "fourmodes-server", version, about, max_term_width = 100, after_help = EXIT_CODES)]
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

    /// How many threads serve connections; a connection stays on one of them
    /// [default: one for each core]
    #[arg(long, env = "FOURMODES_WORKERS", hide_env_values = true, value_name = "N", value_parser = at_least_one, global = true)]
    pub workers: Option<usize>,

    /// A directory whose files may be followed with `log`: all that it contains,
    /// and nothing else [default: none may]
    #[arg(long, env = "FOURMODES_LOG_ROOT", hide_env_values = true, value_name = "DIR", global = true)]
    pub log_root: Option<PathBuf>,

    /// Who the server is, and who may call it
    #[command(flatten)]
    pub tls: TlsOptions,

    /// Lets in only who has a token. A line a caller: a name, the SHA-256 of its
    /// token in hex, and the modes it may call, `all` or separated by commas. New
    /// content is taken as it comes
    #[arg(long, env = "FOURMODES_TOKENS_FILE", hide_env_values = true, value_name = "FILE", global = true)]
    pub tokens_file: Option<PathBuf>,

    /// Reflection also for those without a token
    #[arg(
        long,
        env = "FOURMODES_OPEN_REFLECTION",
        hide_env_values = true,
        value_parser = clap::builder::FalseyValueParser::new(),
        global = true
    )]
    pub open_reflection: bool,

    /// Clients may ask for faults: `client --fault-abort`, `--fault-delay`, or the
    /// headers that Envoy has for it
    #[arg(
        long,
        env = "FOURMODES_ALLOW_FAULTS",
        hide_env_values = true,
        value_parser = clap::builder::FalseyValueParser::new(),
        global = true
    )]
    pub allow_faults: bool,

    /// Metrics for Prometheus at http://ADDRESS/metrics, for everyone who can
    /// reach it [default: none]
    #[arg(long, env = "FOURMODES_METRICS", hide_env_values = true, value_name = "ADDRESS", global = true)]
    pub metrics: Option<SocketAddr>,

    /// A page of this origin, such as `https://example.com`, may call by gRPC-Web;
    /// may be given several times, `*` lets in every page [default: none but
    /// those of the server's own origin]
    #[arg(
        long,
        env = "FOURMODES_GRPC_WEB_ORIGINS",
        hide_env_values = true,
        value_name = "ORIGIN",
        value_delimiter = ',',
        value_parser = origin,
        global = true
    )]
    pub grpc_web_origin: Vec<HeaderValue>,

    /// What a peer may take
    #[command(flatten)]
    pub limits: LimitOptions,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What this process was called with. The options of serving are global, so
    /// that they may also stand behind a mode; the help of `certs` is without
    /// them, as they mean nothing to it.
    #[must_use]
    pub fn of_this_process() -> Self {
        let mut command = Self::command();
        command.build();
        let own = |option: Arg| {
            let is_global = option.is_global_set();
            option.hide(is_global)
        };
        let mut command = command.mut_subcommand("certs", |certs| certs.mut_args(own));
        let matches = command.get_matches_mut();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
    }
}

/// New content of these files is taken while the server runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsOptions {
    /// The server's certificate in PEM, with those between it and its CA: serves
    /// https, and takes new content of the files as it comes
    #[arg(long, env = "FOURMODES_TLS_CERT", hide_env_values = true, value_name = "FILE", global = true)]
    pub tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert in PEM
    #[arg(long, env = "FOURMODES_TLS_KEY", hide_env_values = true, value_name = "FILE", global = true)]
    pub tls_key: Option<PathBuf>,

    /// Takes only clients that have a certificate of a CA in this file of PEM
    #[arg(long, env = "FOURMODES_CLIENT_CA", hide_env_values = true, value_name = "FILE", global = true)]
    pub client_ca: Option<PathBuf>,
}

/// What to do: serve, or make certificates for it.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve.
    #[command(flatten)]
    Serve(Modes),
    /// Make a CA for development, and certificates of it for a server and a client
    Certs {
        /// Where to put them
        #[arg(long, env = "FOURMODES_CERTS_DIR", hide_env_values = true, value_name = "DIR")]
        dir: PathBuf,
        /// A name or an IP address of the server, besides localhost, 127.0.0.1
        /// and ::1; may be given several times
        #[arg(
            long = "name",
            env = "FOURMODES_CERTS_NAMES",
            hide_env_values = true,
            value_name = "HOST",
            value_delimiter = ','
        )]
        names: Vec<String>,
        /// Replace those that are there
        #[arg(long, env = "FOURMODES_FORCE", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
        force: bool,
    },
}

impl TlsOptions {
    fn files(self) -> Result<Option<TlsFiles>, Unusable> {
        match (self.tls_cert, self.tls_key, self.client_ca) {
            (Some(certificate), Some(key), client_ca) => Ok(Some(TlsFiles { certificate, key, client_ca })),
            (None, None, None) => Ok(None),
            (None, None, Some(_)) => Err(Unusable::ClientCaWithoutTls),
            _ => Err(Unusable::HalfOfTls),
        }
    }
}

/// Over a limit a call ends with a status that names it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// How many connections there may be; one more is closed at once
    #[arg(long, env = "FOURMODES_MAX_CONNECTIONS", hide_env_values = true, default_value = "1024", value_name = "N", value_parser = at_least_one, global = true)]
    pub max_connections: usize,

    /// How long a connection may say nothing at first
    #[arg(long, env = "FOURMODES_FIRST_BYTE_TIMEOUT", hide_env_values = true, default_value = "5s", value_name = "DURATION", value_parser = duration, global = true)]
    pub first_byte_timeout: Duration,

    /// How long its handshakes may take then, or the head of a request over HTTP/1.1
    #[arg(long, env = "FOURMODES_HANDSHAKE_TIMEOUT", hide_env_values = true, default_value = "5s", value_name = "DURATION", value_parser = duration, global = true)]
    pub handshake_timeout: Duration,

    /// How many calls may be open on one connection; further ones wait at the client
    #[arg(long, env = "FOURMODES_MAX_STREAMS", hide_env_values = true, default_value = "100", value_name = "N", value_parser = clap::value_parser!(u32).range(1..), global = true)]
    pub max_streams: u32,

    /// How many calls may be open in all
    #[arg(long, env = "FOURMODES_MAX_CALLS", hide_env_values = true, default_value = "10000", value_name = "N", value_parser = at_least_one, global = true)]
    pub max_calls: usize,

    /// How long the headers of a call may be, as HTTP/2 counts them
    #[arg(long, env = "FOURMODES_MAX_HEADERS", hide_env_values = true, default_value = "16KiB", value_name = "SIZE", value_parser = bytes, global = true)]
    pub max_headers: u32,

    /// How long a message of a stream may be
    #[arg(long, env = "FOURMODES_MAX_MESSAGE", hide_env_values = true, default_value = "4MiB", value_name = "SIZE", value_parser = bytes, global = true)]
    pub max_message: u32,

    /// How long the request of a unary call may be
    #[arg(long, env = "FOURMODES_MAX_COMMAND", hide_env_values = true, default_value = "64KiB", value_name = "SIZE", value_parser = bytes, global = true)]
    pub max_command: u32,

    /// After how long without a frame a client is asked whether it is there
    #[arg(long, env = "FOURMODES_KEEPALIVE_INTERVAL", hide_env_values = true, default_value = "10s", value_name = "DURATION", value_parser = duration, global = true)]
    pub keepalive_interval: Duration,

    /// How long its answer may take; then its connection is closed
    #[arg(long, env = "FOURMODES_KEEPALIVE_TIMEOUT", hide_env_values = true, default_value = "5s", value_name = "DURATION", value_parser = duration, global = true)]
    pub keepalive_timeout: Duration,

    /// How long a unary call may take whose client has set no deadline
    #[arg(long, env = "FOURMODES_UNARY_DEADLINE", hide_env_values = true, default_value = "5s", value_name = "DURATION", value_parser = duration, global = true)]
    pub unary_deadline: Duration,

    /// How long nothing may move on a stream
    #[arg(long, env = "FOURMODES_IDLE_TIMEOUT", hide_env_values = true, default_value = "60s", value_name = "DURATION", value_parser = duration, global = true)]
    pub idle_timeout: Duration,

    /// After about how long a stream ends, and its client begins it anew
    #[arg(long, env = "FOURMODES_MAX_STREAM_AGE", hide_env_values = true, default_value = "1h", value_name = "DURATION", value_parser = duration, global = true)]
    pub max_stream_age: Duration,

    /// How large an upload may be
    #[arg(long, env = "FOURMODES_MAX_UPLOAD", hide_env_values = true, default_value = "1GiB", value_name = "SIZE", value_parser = shared_process::bytes, global = true)]
    pub max_upload: u64,

    /// How many uploads may be unfinished at a time
    #[arg(long, env = "FOURMODES_MAX_PARTIAL_UPLOADS", hide_env_values = true, default_value = "64", value_name = "N", value_parser = at_least_one, global = true)]
    pub max_partial_uploads: usize,

    /// How long an upload is kept of which nothing more arrives
    #[arg(long, env = "FOURMODES_PARTIAL_UPLOAD_AGE", hide_env_values = true, default_value = "24h", value_name = "DURATION", value_parser = duration, global = true)]
    pub partial_upload_age: Duration,

    /// How long the events of a room, and quotes, are kept
    #[arg(long, env = "FOURMODES_RETENTION_AGE", hide_env_values = true, default_value = "24h", value_name = "DURATION", value_parser = duration, global = true)]
    pub retention_age: Duration,

    /// How much of the events of each room, and of the quotes, is kept
    #[arg(long, env = "FOURMODES_RETENTION_SIZE", hide_env_values = true, default_value = "1GiB", value_name = "SIZE", value_parser = shared_process::bytes, global = true)]
    pub retention_size: u64,
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
  1  could not start, or could not make the certificates
  2  wrong usage
  130  a second signal: what was open is cut";

impl Config {
    /// What `cli` says about serving `modes`.
    ///
    /// # Errors
    ///
    /// When something of it makes no sense, alone or together.
    pub fn new(cli: Cli, modes: Modes) -> anyhow::Result<Self> {
        let limits = &cli.limits;
        Ok(Self {
            uploads: UploadLimits {
                size: limits.max_upload,
                partials: limits.max_partial_uploads,
                kept: limits.partial_upload_age,
                ..UploadLimits::default()
            },
            retention: Retention { age: limits.retention_age, bytes: limits.retention_size },
            limits: Limits::from(limits),
            tokens: cli.tokens_file.as_deref().map(Tokens::read).transpose()?,
            open_reflection: cli.open_reflection,
            allow_faults: cli.allow_faults,
            metrics: cli.metrics,
            grpc_web_origins: cli.grpc_web_origin,
            listen: cli.listen,
            grace: cli.grace,
            quotes_seed: cli.quotes_seed,
            data: data(cli.data_dir)?,
            workers: cli.workers.unwrap_or_else(|| available_parallelism().map_or(1, NonZero::get)),
            log_root: cli.log_root,
            tls: cli.tls.files()?,
            modes: match modes {
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

impl From<&LimitOptions> for Limits {
    fn from(options: &LimitOptions) -> Self {
        Self {
            connections: options.max_connections,
            first_byte: options.first_byte_timeout,
            handshake: options.handshake_timeout,
            streams: options.max_streams,
            calls: options.max_calls,
            headers: options.max_headers,
            message: options.max_message,
            command: options.max_command,
            keepalive_interval: options.keepalive_interval,
            keepalive_timeout: options.keepalive_timeout,
            unary_deadline: options.unary_deadline,
            idle: options.idle_timeout,
            age: options.max_stream_age,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text).map_err(|error| error.to_string())? {
        Duration::ZERO => Err("it has to be more than nothing".to_owned()),
        duration => Ok(duration),
    }
}

/// A scheme and a host, as a browser sends them: compared byte by byte.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let is_origin = |uri: &Uri| {
        uri.scheme().zip(uri.authority()).is_some_and(|(scheme, host)| text == format!("{scheme}://{host}"))
    };
    match text {
        "*" => Ok(HeaderValue::from_static("*")),
        text if text.parse().is_ok_and(|uri| is_origin(&uri)) => {
            HeaderValue::from_str(text).map_err(|error| error.to_string())
        }
        _ => Err("it has to be a scheme and a host, such as https://example.com, or *".to_owned()),
    }
}

fn bytes(text: &str) -> Result<u32, String> {
    shared_process::bytes(text)?.try_into().map_err(|_| "that is more than 4GiB".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it has to be 1 at least".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// Options that do not make a server.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The platform does not say where programs keep their state.
    #[error("there is no home directory to keep the state in; choose a place with --data-dir, or :memory:")]
    NoHome,
    /// One file of the two.
    #[error("--tls-cert and --tls-key go together: give both, or neither to serve without TLS")]
    HalfOfTls,
    /// Clients have certificates with TLS only.
    #[error("--client-ca needs TLS: give --tls-cert and --tls-key as well")]
    ClientCaWithoutTls,
}

fn data(directory: Option<PathBuf>) -> Result<Data, Unusable> {
    match directory {
        Some(directory) if directory == Path::new(":memory:") => Ok(Data::Memory),
        Some(directory) => Ok(Data::Directory(directory)),
        None => {
            let platform = choose_base_strategy().map_err(|_| Unusable::NoHome)?;
            let state = platform.state_dir().unwrap_or_else(|| platform.data_dir());
            Ok(Data::Directory(state.join("fourmodes")))
        }
    }
}

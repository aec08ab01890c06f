//! What a user may say to any server that has the stack.

use std::{net::SocketAddr, num::NonZero, path::PathBuf, thread::available_parallelism, time::Duration};

use clap::Args;
use http::{HeaderValue, Uri, uri::Authority};
use shared_process::{at_least_one, duration};

use crate::{
    settings::{Limits, Settings, TlsFiles},
    tokens::Tokens,
};

/// The options of a server that has the stack: a binary flattens them into its
/// own.
// All are global, so that they may also stand behind a subcommand.
#[derive(Debug, Args)]
pub struct Options {
    /// Time limit for open calls after SIGINT or SIGTERM
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

    /// Number of threads; a connection stays on one thread [default: one for each core]
    #[arg(long, env = "FOURMODES_WORKERS", hide_env_values = true, value_name = "N", value_parser = at_least_one, global = true)]
    pub workers: Option<usize>,

    /// Require a token. One caller per line: a name, the SHA-256 of its token in hex, and its
    /// modes, `all` or separated by commas. The server reloads a changed file
    #[arg(long, env = "FOURMODES_TOKENS_FILE", hide_env_values = true, value_name = "FILE", global = true)]
    pub tokens_file: Option<PathBuf>,

    /// Allow reflection without a token
    #[arg(
        long,
        env = "FOURMODES_OPEN_REFLECTION",
        hide_env_values = true,
        value_parser = clap::builder::FalseyValueParser::new(),
        global = true
    )]
    pub open_reflection: bool,

    /// Let clients request faults: `fourmodes --fault-abort`, `--fault-delay`, or Envoy's headers
    #[arg(
        long,
        env = "FOURMODES_ALLOW_FAULTS",
        hide_env_values = true,
        value_parser = clap::builder::FalseyValueParser::new(),
        global = true
    )]
    pub allow_faults: bool,

    /// Serve metrics for Prometheus at http://ADDRESS/metrics, to everyone who can reach it
    /// [default: off]
    #[arg(long, env = "FOURMODES_METRICS", hide_env_values = true, value_name = "ADDRESS", global = true)]
    pub metrics: Option<SocketAddr>,

    /// Let pages of this origin call, such as `https://example.com`; repeatable; `*` allows every
    /// page [default: only the server's own origin]
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

    /// Let pages call the server by this name, such as `grpc.example.com`; repeatable; `*` allows
    /// every name [default: `localhost`, the loopback addresses and the address of the connection]
    #[arg(
        long,
        env = "FOURMODES_GRPC_WEB_HOSTS",
        hide_env_values = true,
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = host,
        global = true
    )]
    pub grpc_web_host: Vec<String>,

    /// Who the server is, and who may call it
    #[command(flatten)]
    pub tls: TlsOptions,

    /// What a peer may take
    #[command(flatten)]
    pub limits: LimitOptions,
}

/// New content of these files is taken while the server runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsOptions {
    /// Certificate chain of the server in PEM: serve TLS. The server reloads changed files
    #[arg(long, env = "FOURMODES_TLS_CERT", hide_env_values = true, value_name = "FILE", global = true)]
    pub tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert in PEM
    #[arg(long, env = "FOURMODES_TLS_KEY", hide_env_values = true, value_name = "FILE", global = true)]
    pub tls_key: Option<PathBuf>,

    /// Require client certificates from a CA in this PEM file
    #[arg(long, env = "FOURMODES_CLIENT_CA", hide_env_values = true, value_name = "FILE", global = true)]
    pub client_ca: Option<PathBuf>,
}

/// Over a limit a call ends with a status that names it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// Maximum number of connections; the server closes further ones at once
    #[arg(long, env = "FOURMODES_MAX_CONNECTIONS", hide_env_values = true, default_value = "1024", value_name = "N", value_parser = at_least_one, global = true)]
    pub max_connections: usize,

    /// Approximate maximum age of a connection; new calls then need a new connection
    #[arg(long, env = "FOURMODES_MAX_CONNECTION_AGE", hide_env_values = true, default_value = "1h", value_name = "DURATION", value_parser = duration, global = true)]
    pub max_connection_age: Duration,

    /// Time allowed until a connection's first byte
    #[arg(long, env = "FOURMODES_FIRST_BYTE_TIMEOUT", hide_env_values = true, default_value = "5s", value_name = "DURATION", value_parser = duration, global = true)]
    pub first_byte_timeout: Duration,

    /// Time limit for the handshakes after that, or for the headers of an HTTP/1.1 request
    #[arg(long, env = "FOURMODES_HANDSHAKE_TIMEOUT", hide_env_values = true, default_value = "5s", value_name = "DURATION", value_parser = duration, global = true)]
    pub handshake_timeout: Duration,

    /// Maximum number of open calls on a connection; further calls wait in the client
    #[arg(long, env = "FOURMODES_MAX_STREAMS", hide_env_values = true, default_value = "100", value_name = "N", value_parser = clap::value_parser!(u32).range(1..), global = true)]
    pub max_streams: u32,

    /// Maximum number of open calls in total
    #[arg(long, env = "FOURMODES_MAX_CALLS", hide_env_values = true, default_value = "10000", value_name = "N", value_parser = at_least_one, global = true)]
    pub max_calls: usize,

    /// Maximum size of a call's headers, as HTTP/2 counts them; up to 64KiB
    #[arg(long, env = "FOURMODES_MAX_HEADERS", hide_env_values = true, default_value = "16KiB", value_name = "SIZE", value_parser = headers, global = true)]
    pub max_headers: u32,

    /// Maximum size of a message in a stream
    #[arg(long, env = "FOURMODES_MAX_MESSAGE", hide_env_values = true, default_value = "4MiB", value_name = "SIZE", value_parser = bytes, global = true)]
    pub max_message: u32,

    /// Maximum size of the request of a unary call
    #[arg(long, alias = "max-command", env = "FOURMODES_MAX_COMMAND", hide_env_values = true, default_value = "64KiB", value_name = "SIZE", value_parser = bytes, global = true)]
    pub max_unary_message: u32,

    /// Memory limit for unread responses and incomplete requests; a connection may use a quarter of
    /// it
    #[arg(long, env = "FOURMODES_MAX_BUFFERED", hide_env_values = true, default_value = "512MiB", value_name = "SIZE", value_parser = shared_process::bytes, global = true)]
    pub max_buffered: u64,

    /// Send a keepalive ping after this much silence
    #[arg(long, env = "FOURMODES_KEEPALIVE_INTERVAL", hide_env_values = true, default_value = "10s", value_name = "DURATION", value_parser = duration, global = true)]
    pub keepalive_interval: Duration,

    /// Time limit for the answer to a ping; then the server closes the connection
    #[arg(long, env = "FOURMODES_KEEPALIVE_TIMEOUT", hide_env_values = true, default_value = "5s", value_name = "DURATION", value_parser = duration, global = true)]
    pub keepalive_timeout: Duration,

    /// Deadline of a unary call that has none
    #[arg(long, env = "FOURMODES_UNARY_DEADLINE", hide_env_values = true, default_value = "5s", value_name = "DURATION", value_parser = duration, global = true)]
    pub unary_deadline: Duration,

    /// Maximum deadline of a unary call
    #[arg(long, env = "FOURMODES_MAX_UNARY_DEADLINE", hide_env_values = true, default_value = "60s", value_name = "DURATION", value_parser = duration, global = true)]
    pub max_unary_deadline: Duration,

    /// Maximum idle time of a stream
    #[arg(long, env = "FOURMODES_IDLE_TIMEOUT", hide_env_values = true, default_value = "60s", value_name = "DURATION", value_parser = duration, global = true)]
    pub idle_timeout: Duration,

    /// Approximate maximum age of a stream; the client then opens a new one
    #[arg(long, env = "FOURMODES_MAX_STREAM_AGE", hide_env_values = true, default_value = "1h", value_name = "DURATION", value_parser = duration, global = true)]
    pub max_stream_age: Duration,
}

impl Options {
    /// What they say.
    ///
    /// # Errors
    ///
    /// [`Unusable`] when they make no sense together, and an error of
    /// [`Tokens::read`].
    pub fn settings(self) -> anyhow::Result<Settings> {
        Ok(Settings {
            grace: self.grace,
            workers: self.workers.unwrap_or_else(|| available_parallelism().map_or(1, NonZero::get)),
            limits: Limits::from(&self.limits),
            tokens: self.tokens_file.as_deref().map(Tokens::read).transpose()?,
            tls: self.tls.files()?,
            open_reflection: self.open_reflection,
            allow_faults: self.allow_faults,
            metrics: self.metrics,
            grpc_web_origins: self.grpc_web_origin,
            grpc_web_hosts: self.grpc_web_host,
            ..Settings::default()
        })
    }
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

impl From<&LimitOptions> for Limits {
    fn from(options: &LimitOptions) -> Self {
        Self {
            connections: options.max_connections,
            connection_age: options.max_connection_age,
            first_byte: options.first_byte_timeout,
            handshake: options.handshake_timeout,
            streams: options.max_streams,
            calls: options.max_calls,
            headers: options.max_headers,
            message: options.max_message,
            unary_message: options.max_unary_message,
            buffered: usize::try_from(options.max_buffered).unwrap_or(usize::MAX),
            keepalive_interval: options.keepalive_interval,
            keepalive_timeout: options.keepalive_timeout,
            unary_deadline: options.unary_deadline,
            max_unary_deadline: options.max_unary_deadline,
            idle: options.idle_timeout,
            age: options.max_stream_age,
        }
    }
}

/// Options that do not go together.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// One file of the two.
    #[error("--tls-cert and --tls-key need each other: set both, or neither to serve without TLS")]
    HalfOfTls,
    /// Clients have certificates with TLS only.
    #[error("--client-ca needs TLS: also set --tls-cert and --tls-key")]
    ClientCaWithoutTls,
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

/// A name or an address, without a scheme and a port.
fn host(text: &str) -> Result<String, String> {
    let is_host = text.parse().is_ok_and(|it: Authority| it.host() == text);
    (is_host || text == "*").then(|| text.to_owned()).ok_or_else(|| {
        "it must be a name or an address without a port, such as grpc.example.com or [2001:db8::1], or *"
            .to_owned()
    })
}

fn headers(text: &str) -> Result<u32, String> {
    let size = bytes(text)?;
    (size <= Limits::HEADERS).then_some(size).ok_or_else(|| "64KiB is the most".to_owned())
}

fn bytes(text: &str) -> Result<u32, String> {
    shared_process::bytes(text)?.try_into().map_err(|_| "that is more than 4GiB".to_owned())
}

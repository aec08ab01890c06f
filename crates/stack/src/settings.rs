//! The validated settings.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use grpc_wire::limits;
use http::{HeaderName, HeaderValue};

use crate::tokens::Tokens;

/// The settings of a stack. [`Options`](crate::Options) makes them from a command line.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The prefix of the stack's own metrics.
    pub name: &'static str,
    /// Time limit for open calls after shutdown began.
    pub grace: Duration,
    /// Number of threads. With one thread, the caller's runtime serves.
    pub workers: usize,
    /// Limits for peers.
    pub limits: Limits,
    /// TLS; without it, connections are not encrypted.
    pub tls: Option<TlsFiles>,
    /// The tokens; unset, everyone may call.
    pub tokens: Option<Tokens>,
    /// Whether reflection needs no token.
    pub open_reflection: bool,
    /// Whether clients may request faults.
    pub allow_faults: bool,
    /// How many files the services may have open. The stack only raises the limit of the process
    /// for them.
    pub open_files: usize,
    /// The address of the metrics; unset, there are none.
    pub metrics: Option<SocketAddr>,
    /// Origins whose pages may call, besides the server's own; `*` means all.
    pub grpc_web_origins: Vec<HeaderValue>,
    /// Host names by which pages may call the server, without a port, besides `localhost`, the
    /// loopback addresses and the address of the connection; `*` means all.
    pub grpc_web_hosts: Vec<String>,
    /// The headers of responses that such a page may read, besides those of gRPC.
    pub grpc_web_headers: Vec<HeaderName>,
}

impl Default for Settings {
    /// Without TLS and tokens, on the caller's runtime.
    fn default() -> Self {
        Self {
            name: "fourmodes",
            grace: Duration::from_secs(10),
            workers: 1,
            limits: Limits::default(),
            tls: None,
            tokens: None,
            open_reflection: false,
            allow_faults: false,
            open_files: 512,
            metrics: None,
            grpc_web_origins: Vec::new(),
            grpc_web_hosts: Vec::new(),
            grpc_web_headers: Vec::new(),
        }
    }
}

/// Limits for peers: sizes, numbers and times.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of connections.
    pub connections: usize,
    /// Approximate maximum age of a connection. The peer then makes new calls on a new connection.
    pub connection_age: Duration,
    /// Time until the first byte of a connection.
    pub first_byte: Duration,
    /// Time from the first byte until the TLS and HTTP/2 handshakes are complete.
    pub handshake: Duration,
    /// Maximum number of open calls on a connection.
    pub streams: u32,
    /// Maximum number of open calls in total.
    pub calls: usize,
    /// The headers of a call, in bytes as HTTP/2 counts them: up to
    /// [`HEADERS`](Self::HEADERS).
    pub headers: u32,
    /// A message of a stream, in bytes.
    pub message: u32,
    /// A message of a unary call, in bytes.
    pub unary_message: u32,
    /// Memory limit for unread responses and incomplete requests, in bytes; a connection may use a
    /// quarter of it. The first 64 KiB of each call do not count.
    pub buffered: usize,
    /// The server sends a keepalive ping after this much silence.
    pub keepalive_interval: Duration,
    /// Time limit for the answer to a ping.
    pub keepalive_timeout: Duration,
    /// The deadline of a unary call without one.
    pub unary_deadline: Duration,
    /// Maximum deadline of a unary call.
    pub max_unary_deadline: Duration,
    /// Maximum idle time of a stream.
    pub idle: Duration,
    /// Approximate maximum age of a stream.
    pub age: Duration,
}

impl Limits {
    /// The maximum of [`headers`](Self::headers). The HTTP library accepts no path of this length,
    /// and over HTTP/1.1 it panics at 24,577 headers.
    pub const HEADERS: u32 = 64 << 10;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connection_age: Duration::from_secs(3600),
            first_byte: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            streams: 100,
            calls: 10_000,
            headers: 16 << 10,
            message: limits::MESSAGE_BYTES as u32,
            unary_message: limits::UNARY_MESSAGE_BYTES as u32,
            buffered: 512 << 20,
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            keepalive_timeout: limits::KEEPALIVE_TIMEOUT,
            unary_deadline: Duration::from_secs(5),
            max_unary_deadline: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            age: Duration::from_secs(3600),
        }
    }
}

/// The PEM files for TLS. The server reloads changed files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The CAs for client certificates; unset, the server requests none.
    pub client_ca: Option<PathBuf>,
}

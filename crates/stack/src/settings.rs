//! What the stack may rely on.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use grpc_wire::limits;
use http::{HeaderName, HeaderValue};

use crate::tokens::Tokens;

/// The settings of a stack. [`Options`](crate::Options) makes them of a command
/// line.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the names of the stack's own metrics begin with.
    pub name: &'static str,
    /// How long open calls may go on after shutdown began.
    pub grace: Duration,
    /// How many threads serve connections. With one, that is the caller's runtime.
    pub workers: usize,
    /// What a peer may take.
    pub limits: Limits,
    /// TLS; without it connections are in the clear.
    pub tls: Option<TlsFiles>,
    /// Who may call; everyone, when unset.
    pub tokens: Option<Tokens>,
    /// Whether reflection answers those without a token, too.
    pub open_reflection: bool,
    /// Whether a client may ask for faults.
    pub allow_faults: bool,
    /// How many files the services may have open. The stack opens none of them: it
    /// makes sure that the process may.
    pub open_files: usize,
    /// Where metrics are to be had; nowhere, when unset.
    pub metrics: Option<SocketAddr>,
    /// The origins whose pages may call, besides the server's own; `*` is all of
    /// them.
    pub grpc_web_origins: Vec<HeaderValue>,
    /// The names by which pages may call the server, without a port, besides
    /// `localhost`, the loopback addresses and the address of the connection; `*` is
    /// all of them.
    pub grpc_web_hosts: Vec<String>,
    /// The headers of responses that such a page may read, besides those of gRPC.
    pub grpc_web_headers: Vec<HeaderName>,
}

impl Default for Settings {
    /// In the clear, for everyone, on the caller's runtime.
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

/// What a peer may take, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections there may be.
    pub connections: usize,
    /// About how old a connection may be. Then its peer makes further calls on a
    /// new one.
    pub connection_age: Duration,
    /// Until the first byte of a connection.
    pub first_byte: Duration,
    /// From there until the handshakes are complete, TLS and HTTP/2.
    pub handshake: Duration,
    /// How many calls there may be on one connection.
    pub streams: u32,
    /// How many calls there may be in all.
    pub calls: usize,
    /// The headers of a call, in bytes as HTTP/2 counts them: up to
    /// [`HEADERS`](Self::HEADERS).
    pub headers: u32,
    /// A message of a stream, in bytes.
    pub message: u32,
    /// A message of a unary call, in bytes.
    pub unary_message: u32,
    /// What the server may hold of responses that are not read and of requests that
    /// are not complete, in bytes; a connection may hold a quarter of it. The first
    /// 64 KiB of each call do not count.
    pub buffered: usize,
    /// After this long without a frame the server asks whether the client is
    /// there.
    pub keepalive_interval: Duration,
    /// How long the answer to that may take.
    pub keepalive_timeout: Duration,
    /// The deadline of a unary call whose client has sent none.
    pub unary_deadline: Duration,
    /// The longest deadline that a unary call gets, whatever its client asks for.
    pub max_unary_deadline: Duration,
    /// How long nothing may move on a stream.
    pub idle: Duration,
    /// About how old a stream may be.
    pub age: Duration,
}

impl Limits {
    /// The most that [`headers`](Self::headers) may be. The library for HTTP takes no
    /// path of this length, and over HTTP/1.1 it panics at 24,577 headers.
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

/// What TLS needs, in files of PEM. New content is taken while the server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and its CA.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The CAs that a client's certificate has to be from; without it none is
    /// asked for.
    pub client_ca: Option<PathBuf>,
}

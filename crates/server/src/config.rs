//! What the server may rely on.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use grpc_wire::{Mode, limits};
use http::HeaderValue;
use shared_proto::limits::HEARTBEAT;

pub use crate::{domain::feed::Retention, tokens::Tokens};

/// The settings of one server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the binary listens. [`serve`](crate::serve) gets its listener.
    pub listen: SocketAddr,
    /// How long open calls may go on after shutdown began.
    pub grace: Duration,
    /// Where the state is kept.
    pub data: Data,
    /// How much of a history is kept, of each room and of the quotes.
    pub retention: Retention,
    /// Seed of the simulated quotes.
    pub quotes_seed: u64,
    /// The directory whose files may be followed; none, when unset.
    pub log_root: Option<PathBuf>,
    /// How long a stream that monitors something may be silent.
    pub heartbeat: Duration,
    /// What uploads may take.
    pub uploads: UploadLimits,
    /// What a peer may take otherwise.
    pub limits: Limits,
    /// Who may call; everyone, when unset.
    pub tokens: Option<Tokens>,
    /// Whether reflection answers those without a token, too.
    pub open_reflection: bool,
    /// Whether a client may ask for faults.
    pub allow_faults: bool,
    /// Where metrics are to be had; nowhere, when unset.
    pub metrics: Option<SocketAddr>,
    /// The origins whose pages may call by gRPC-Web, besides the server's own; `*`
    /// is all of them.
    pub grpc_web_origins: Vec<HeaderValue>,
    /// TLS; without it connections are in the clear.
    pub tls: Option<TlsFiles>,
    /// How many threads serve connections. With one, that is the caller's runtime.
    pub workers: usize,
    /// The modes to serve; the others answer UNIMPLEMENTED and say so.
    pub modes: Vec<Mode>,
}

/// What uploads may take.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    /// The largest content, in bytes.
    pub size: u64,
    /// How many uploads may be unfinished at a time.
    pub partials: usize,
    /// How long an upload is kept of which nothing more arrives.
    pub kept: Duration,
    /// After this many bytes what has arrived becomes durable.
    pub checkpoint: u64,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self { size: 1 << 30, partials: 64, kept: Duration::from_secs(24 * 3600), checkpoint: 32 << 20 }
    }
}

/// What a peer may take, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections there may be.
    pub connections: usize,
    /// Until the first byte of a connection.
    pub first_byte: Duration,
    /// From there until the handshakes are complete, TLS and HTTP/2.
    pub handshake: Duration,
    /// How many calls there may be on one connection.
    pub streams: u32,
    /// How many calls there may be in all.
    pub calls: usize,
    /// The headers of a call, in bytes as HTTP/2 counts them.
    pub headers: u32,
    /// A message of a stream, in bytes.
    pub message: u32,
    /// A message of a unary call, in bytes.
    pub command: u32,
    /// After this long without a frame the server asks whether the client is
    /// there.
    pub keepalive_interval: Duration,
    /// How long the answer to that may take.
    pub keepalive_timeout: Duration,
    /// The deadline of a unary call whose client has sent none.
    pub unary_deadline: Duration,
    /// How long nothing may move on a stream.
    pub idle: Duration,
    /// About how old a stream may be.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            first_byte: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            streams: 100,
            calls: 10_000,
            headers: 16 << 10,
            message: limits::MESSAGE_BYTES as u32,
            command: limits::UNARY_MESSAGE_BYTES as u32,
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            keepalive_timeout: limits::KEEPALIVE_TIMEOUT,
            unary_deadline: Duration::from_secs(5),
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

/// Where a server keeps its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In memory and in a temporary directory: gone with the server.
    Memory,
    /// In a directory that is this server's own.
    Directory(PathBuf),
}

impl Default for Config {
    /// All modes, on a free port of the loopback interface, with throw-away
    /// state.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            grace: Duration::from_secs(10),
            data: Data::Memory,
            retention: Retention::default(),
            quotes_seed: 1,
            log_root: None,
            heartbeat: HEARTBEAT,
            uploads: UploadLimits::default(),
            limits: Limits::default(),
            tokens: None,
            open_reflection: false,
            allow_faults: false,
            metrics: None,
            grpc_web_origins: Vec::new(),
            tls: None,
            workers: 1,
            modes: Mode::ALL.to_vec(),
        }
    }
}

//! What the server may rely on.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

pub use domain::{feed::Retention, uploads::UploadLimits};
use grpc_wire::Mode;
use http::Uri;
use shared_proto::limits::{ADVERTISED_BYTES, MONITORING_HEARTBEAT};
use stack::Settings;

/// The settings of one server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the binary listens. [`serve`](crate::serve) gets its listener.
    pub listen: SocketAddr,
    /// The address by which clients of other servers learn of this one.
    pub advertise: Advertise,
    /// What its stack may rely on.
    pub stack: Settings,
    /// Where the state is kept.
    pub data: Data,
    /// The address of the database that has the state instead.
    pub store: Option<String>,
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
    /// How many rooms may be kept.
    pub rooms: usize,
    /// Maximum number of documents.
    pub documents: usize,
    /// How many files may be open for calls at a time.
    pub open_files: usize,
    /// Where a page shows the calls; nowhere, when unset.
    pub page: Option<SocketAddr>,
    /// By which names browsers may call it, besides the loopback names and its address.
    pub page_hosts: Vec<String>,
    /// Where Go's net/rpc is served as well; nowhere, when unset.
    pub net_rpc: Option<SocketAddr>,
    /// The modes to serve; the others answer UNIMPLEMENTED and say so.
    pub modes: Vec<Mode>,
}

/// Which address of a server the clients of other servers learn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Advertise {
    /// Where it listens, unless that is every address of the machine.
    #[default]
    Listener,
    /// This one.
    Url(String),
    /// None.
    Nothing,
}

impl FromStr for Advertise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write it as http://host:port, https://host:port or none";
        if text == "none" {
            return Ok(Self::Nothing);
        }
        let uri: Uri = text.parse().map_err(|error| format!("{error}; {FORM}"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_server = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.path() == "/"
            && uri.query().is_none()
            && !text.contains(['@', '#']);
        if !is_server || host.is_empty() || text.len() > ADVERTISED_BYTES {
            return Err(FORM.to_owned());
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let is_port = matches!(uri.port_u16(), Some(1..));
        if (has_port && !is_port) || host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()) {
            return Err(format!("no client can call this address; {FORM}"));
        }
        Ok(Self::Url(text.to_owned()))
    }
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
            advertise: Advertise::Listener,
            stack: Settings::default(),
            data: Data::Memory,
            store: None,
            retention: Retention::default(),
            quotes_seed: 1,
            log_root: None,
            heartbeat: MONITORING_HEARTBEAT,
            uploads: UploadLimits::default(),
            rooms: 10_000,
            documents: 1_000,
            open_files: 512,
            page: None,
            page_hosts: Vec::new(),
            net_rpc: None,
            modes: Mode::ALL.to_vec(),
        }
    }
}

impl From<Settings> for Config {
    /// Otherwise the default.
    fn from(stack: Settings) -> Self {
        Self { stack, ..Self::default() }
    }
}

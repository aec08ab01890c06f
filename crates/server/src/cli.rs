//! What a user may say to the server.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use etcetera::{BaseStrategy as _, choose_base_strategy};
use grpc_wire::Mode;
use shared_process::{Describe, at_least_one, duration};

use crate::config::{Advertise, Config, Data, Retention, UploadLimits};

/// A server for gRPC's four communication modes.
///
/// Every mode comes with health (grpc.health.v1), reflection (v1 and v1alpha), probes
/// (fourmodes.v1.ProbeService), measuring (fourmodes.v1.MeasureService) and the interop service
/// (grpc.testing.TestService). All of it also answers gRPC-Web. The first line on stdout is the
/// address. The log goes to stderr; RUST_LOG=debug logs each message.
#[derive(Debug, Parser)]
#[command(name = "fourmodes-server", bin_name = "fourmodes-server", version = env!("VERSION_AND_COMMIT"), about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// Address and port to listen on; port 0 picks a free port [default: 127.0.0.1:50051, or
    /// 127.0.0.1:1234 for net-rpc]
    #[arg(
        long,
        env = "FOURMODES_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS",
        value_parser = listen_address,
        global = true
    )]
    pub listen: Option<SocketAddr>,

    /// Directory for the state, for this server only; `:memory:` keeps nothing after the end
    /// [default: fourmodes in the platform's state directory]
    #[arg(long, env = "FOURMODES_DATA_DIR", hide_env_values = true, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,

    /// Keep the state in a PostgreSQL database instead, such as postgres://user@host/name; several
    /// servers may share it
    #[arg(long, env = "FOURMODES_STORE", hide_env_values = true, value_name = "URL", global = true)]
    pub store: Option<String>,

    /// Address of this server for clients of other servers with the same --store, such as
    /// https://host:50051, or `none` [default: where it listens, or none when that is every
    /// address]
    #[arg(long, env = "FOURMODES_ADVERTISE", hide_env_values = true, value_name = "URL", global = true)]
    pub advertise: Option<Advertise>,

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

    /// Directory whose files clients may follow with `log` [default: none]
    #[arg(long, env = "FOURMODES_LOG_ROOT", hide_env_values = true, value_name = "DIR", global = true)]
    pub log_root: Option<PathBuf>,

    /// Serve a page that shows every call while it runs, at this address, such as 127.0.0.1:8080.
    /// On other than loopback addresses the page needs a token; the log prints the address with the
    /// token [default: off]
    #[arg(long, env = "FOURMODES_PAGE", hide_env_values = true, value_name = "ADDRESS", value_parser = listen_address, global = true)]
    pub page: Option<SocketAddr>,

    /// Host name of the page for browsers, such as `calls.example.com`; repeatable [default: the
    /// loopback names and the page's own address]
    #[arg(
        long,
        env = "FOURMODES_PAGE_HOSTS",
        hide_env_values = true,
        value_name = "NAME",
        value_delimiter = ',',
        global = true
    )]
    pub page_host: Vec<String>,

    /// What its stack may rely on
    #[command(flatten)]
    pub stack: stack::Options,

    /// What its state may take
    #[command(flatten)]
    pub state: StateOptions,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What this process was called with.
    #[must_use]
    pub fn of_this_process() -> Self {
        let mut command = shared_process::readable(Self::command(), HINT);
        let matches = command.get_matches_mut();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
    }
}

/// Of a name the first address, by IPv4 if there is one: that is what most clients
/// of `localhost` try.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let addresses =
        text.to_socket_addrs().map_err(|error| format!("{error}; write it as 127.0.0.1:50051"))?;
    addresses.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| "the name has no address".to_owned())
}

pub(crate) const HINT: &str = "Options of the server, such as --listen: fourmodes-server --help";

/// What to do: serve, make certificates for it, or describe the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve.
    #[command(flatten)]
    Serve(Modes),
    /// Serve Go's net/rpc instead of gRPC: MathService.Multiply, with gob over TCP
    /// or HTTP, or with JSON
    NetRpc,
    /// Make a CA for development, with certificates for a server and a client
    Certs {
        /// Directory to write to
        #[arg(long, env = "FOURMODES_CERTS_DIR", hide_env_values = true, value_name = "DIR")]
        dir: PathBuf,
        /// Host name or IP address of the server, besides localhost, 127.0.0.1 and ::1; repeatable
        #[arg(
            long = "name",
            env = "FOURMODES_CERTS_NAMES",
            hide_env_values = true,
            value_name = "HOST",
            value_delimiter = ','
        )]
        names: Vec<String>,
        /// Replace existing files
        #[arg(long, env = "FOURMODES_FORCE", hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new())]
        force: bool,
    },
    /// Describe the program.
    #[command(flatten)]
    Describe(Describe),
}

/// What the state of one server may take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct StateOptions {
    /// Maximum size of an upload
    #[arg(long, env = "FOURMODES_MAX_UPLOAD", hide_env_values = true, default_value = "1GiB", value_name = "SIZE", value_parser = shared_process::bytes, global = true)]
    pub max_upload: u64,

    /// Maximum number of unfinished uploads
    #[arg(long, env = "FOURMODES_MAX_PARTIAL_UPLOADS", hide_env_values = true, default_value = "64", value_name = "N", value_parser = at_least_one, global = true)]
    pub max_partial_uploads: usize,

    /// How long to keep an upload without progress
    #[arg(long, env = "FOURMODES_PARTIAL_UPLOAD_AGE", hide_env_values = true, default_value = "24h", value_name = "DURATION", value_parser = duration, global = true)]
    pub partial_upload_age: Duration,

    /// Maximum number of files, by name and by content
    #[arg(long, env = "FOURMODES_MAX_FILES", hide_env_values = true, default_value = "10000", value_name = "N", value_parser = at_least_one, global = true)]
    pub max_files: usize,

    /// Maximum total size of content, including unfinished uploads at full size
    #[arg(long, env = "FOURMODES_MAX_CONTENT", hide_env_values = true, default_value = "64GiB", value_name = "SIZE", value_parser = shared_process::bytes, global = true)]
    pub max_content: u64,

    /// Maximum number of documents
    #[arg(long, env = "FOURMODES_MAX_DOCUMENTS", hide_env_values = true, default_value = "1000", value_name = "N", value_parser = at_least_one, global = true)]
    pub max_documents: usize,

    /// Maximum number of rooms; an empty room is removed with its last event
    #[arg(long, env = "FOURMODES_MAX_ROOMS", hide_env_values = true, default_value = "10000", value_name = "N", value_parser = at_least_one, global = true)]
    pub max_rooms: usize,

    /// Maximum number of files open for calls: logs, downloads and uploads
    #[arg(long, env = "FOURMODES_MAX_OPEN_FILES", hide_env_values = true, default_value = "512", value_name = "N", value_parser = at_least_one, global = true)]
    pub max_open_files: usize,

    /// How long to keep the events of a room, and quotes
    #[arg(long, env = "FOURMODES_RETENTION_AGE", hide_env_values = true, default_value = "24h", value_name = "DURATION", value_parser = duration, global = true)]
    pub retention_age: Duration,

    /// Maximum size of the kept events of each room, and of the kept quotes
    #[arg(long, env = "FOURMODES_RETENTION_SIZE", hide_env_values = true, default_value = "1GiB", value_name = "SIZE", value_parser = shared_process::bytes, global = true)]
    pub retention_size: u64,
}

/// What to serve: one mode, or all.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Modes {
    /// One request, one response
    Unary,
    /// One request, many responses
    ServerStreaming,
    /// Many requests, one response
    ClientStreaming,
    /// Many requests, many responses
    BidiStreaming,
    /// All four modes
    All {
        /// Also serve Go's net/rpc at this address, such as 127.0.0.1:1234; without TLS and tokens
        /// [default: off]
        #[arg(long, env = "FOURMODES_NET_RPC", hide_env_values = true, value_name = "ADDRESS", value_parser = listen_address)]
        net_rpc: Option<SocketAddr>,
    },
}

const EXIT_CODES: &str = "Exit status:
  0  stopped by a signal: every call ended, or the grace period was over
  1  could not start, or could not write files
  2  wrong usage
  130  a second signal cut the open calls";

impl Config {
    /// What `cli` says about serving `modes`.
    ///
    /// # Errors
    ///
    /// When something of it makes no sense, alone or together.
    pub fn new(cli: Cli, modes: Modes) -> anyhow::Result<Self> {
        let state = &cli.state;
        Ok(Self {
            uploads: UploadLimits {
                size: state.max_upload,
                partials: state.max_partial_uploads,
                kept: state.partial_upload_age,
                files: state.max_files,
                content: state.max_content,
                ..UploadLimits::default()
            },
            rooms: state.max_rooms,
            documents: state.max_documents,
            open_files: state.max_open_files,
            retention: Retention { age: state.retention_age, bytes: state.retention_size },
            stack: cli.stack.settings()?,
            listen: cli.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 50051))),
            advertise: cli.advertise.unwrap_or_default(),
            page: cli.page,
            page_hosts: cli.page_host,
            quotes_seed: cli.quotes_seed,
            // A database needs no directory.
            data: if cli.store.is_some() { Data::Memory } else { data(cli.data_dir)? },
            store: cli.store,
            log_root: cli.log_root,
            modes: match modes {
                Modes::Unary => vec![Mode::Unary],
                Modes::ServerStreaming => vec![Mode::ServerStreaming],
                Modes::ClientStreaming => vec![Mode::ClientStreaming],
                Modes::BidiStreaming => vec![Mode::BidiStreaming],
                Modes::All { .. } => Mode::ALL.to_vec(),
            },
            net_rpc: match modes {
                Modes::All { net_rpc } => net_rpc,
                _ => None,
            },
            ..Self::default()
        })
    }
}

/// Options that do not make a server.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The platform does not say where programs keep their state.
    #[error("there is no home directory for the state; choose a directory with --data-dir, or :memory:")]
    NoHome,
    /// Options of gRPC that would promise what net/rpc lacks.
    #[error("net/rpc has neither TLS nor tokens; omit --tls-cert, --client-ca and --tokens-file")]
    NetRpcInTheClear,
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

//! What the client may rely on.

use std::{
    fmt, fs,
    io::{self, IsTerminal as _},
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use grpc_wire::limits;
use http::Uri;
use transport::{Connector, Identity, OutgoingMetadata, TlsFiles, is_tls, resolve, retry::MOST_ATTEMPTS};

use crate::options::{Options, Output, ServerOptions, TlsOptions};

/// The deadline of a unary call when the user sets none.
pub(crate) const UNARY_DEADLINE: Duration = Duration::from_secs(5);

/// Allows for a slow path that delivers the last bytes of an upload, and for a slow
/// disk before the answer.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Longer than any connection: turns keepalive off.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A server, or a name all addresses of which are servers.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) is_name: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_name {
            true if is_tls(&self.uri) => write!(f, "dns+{}", self.uri),
            true => write!(f, "dns:///{}", self.uri.authority().map_or("", |name| name.as_str())),
            false => self.uri.fmt(f),
        }
    }
}

/// The addresses of a name.
pub(crate) type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// How the addresses of names are found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookup {
    pub(crate) find: fn(Uri) -> Addresses,
    /// How often this is done when nothing fails.
    pub(crate) every: Duration,
}

impl Default for Lookup {
    /// By the resolver of the system.
    fn default() -> Self {
        Self {
            find: |server| Box::pin(async move { resolve(&server).await }),
            every: Duration::from_secs(30),
        }
    }
}

/// What the options say, validated.
#[derive(Debug)]
pub(crate) struct Config {
    /// At least one.
    pub(crate) servers: Vec<Target>,
    pub(crate) lookup: Lookup,
    pub(crate) connector: Connector,
    pub(crate) output: Output,
    pub(crate) diagram: Option<PathBuf>,
    pub(crate) deadline: Option<Duration>,
    /// How long to try to reconnect when a connection is lost.
    pub(crate) reconnect: Duration,
    /// How long a stream may stand still when the server promises no heartbeat.
    pub(crate) standstill: Duration,
    /// How many times a unary call is attempted; at least 1.
    pub(crate) max_attempts: u32,
    /// Whether to wait for a server that is not there yet.
    pub(crate) wait_for_ready: bool,
    pub(crate) quiet: bool,
    /// Whether HTTP/2 frames are drawn.
    pub(crate) frames: bool,
}

impl Config {
    /// For commands that make calls and show them.
    ///
    /// # Errors
    ///
    /// When something in `options` makes no sense.
    pub(crate) fn of_calls(options: Options) -> Result<Self, String> {
        match options.output.output {
            Output::Junit => Err("--output junit is only for check; use json".to_owned()),
            _ => Self::at(None, options),
        }
    }

    /// Uses `url` instead of the servers of the options, if it is set.
    ///
    /// # Errors
    ///
    /// When something in `options` makes no sense.
    pub(crate) fn at(url: Option<String>, options: Options) -> Result<Self, String> {
        let Options { server, output, tls, retry, keepalive, faults } = options;
        let is_given_alone = url.is_some();
        let urls = url.map_or_else(|| server.servers.clone(), |url| vec![url]);
        let given_as = if is_given_alone { "" } else { "--server " };
        let read = |text: &String| target(text).map_err(|reason| format!("{given_as}{text}: {reason}"));
        let servers = urls.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let token = token(&server)?;
        let metadata = OutgoingMetadata::new(token.as_deref(), faults.fault_abort, faults.fault_delay)?;
        let connector = Connector {
            tls: tls_files(tls, servers.iter().any(|it| is_tls(&it.uri)))?,
            keepalive_interval: keepalive.keepalive_interval.unwrap_or(limits::KEEPALIVE_INTERVAL),
            keepalive_timeout: keepalive.keepalive_timeout,
            metadata: Arc::new(metadata),
            authority: None,
            socket: None,
            onlookers: None,
        };
        Ok(Self {
            servers,
            lookup: Lookup::default(),
            connector,
            output: output.output,
            diagram: output.diagram,
            deadline: server.deadline,
            reconnect: retry.reconnect,
            standstill: STANDSTILL,
            max_attempts: retry.max_attempts.unwrap_or(MOST_ATTEMPTS),
            wait_for_ready: retry.wait_for_ready,
            quiet: output.quiet,
            frames: output.frames,
        })
    }

    /// For a command that draws no frames.
    ///
    /// # Errors
    ///
    /// When frames are requested.
    pub(crate) fn without_frames(self, command: &str) -> Result<Self, String> {
        match self.frames {
            true => Err(format!("{command} draws no frames: leave --frames out")),
            false => Ok(self),
        }
    }

    /// For one server that may be any gRPC server. Keepalive is off unless it was
    /// requested, because many servers close a connection that pings too often. A call
    /// is attempted once.
    ///
    /// # Errors
    ///
    /// When an option makes no sense.
    pub(crate) fn of_any_server(target: &str, options: Options) -> Result<Self, String> {
        if options.output.output == Output::Junit {
            return Err("--output junit is only for check; use json".to_owned());
        }
        let socket = target.strip_prefix("unix:").map(|path| path.strip_prefix("//").unwrap_or(path));
        if socket.is_none() && !target.contains("://") && !target.contains(':') {
            return Err(format!(
                "{target:?} has neither a scheme nor a port; write host:port, https://host or unix:///path"
            ));
        }
        let keepalive = options.keepalive.keepalive_interval.unwrap_or(NEVER);
        let attempts = options.retry.max_attempts.unwrap_or(1);
        let url = if socket.is_some() { "http://localhost" } else { target };
        let mut config = Self::at(Some(url.to_owned()), options)?;
        config.connector.socket = socket.map(PathBuf::from);
        config.connector.keepalive_interval = keepalive;
        config.max_attempts = attempts;
        Ok(config)
    }

    /// Whether stdout is a file or a program that gets the scenario's raw output. A
    /// terminal never gets the raw bytes of a peer.
    pub(crate) fn is_bare(&self) -> bool {
        self.quiet && self.output == Output::Text && !io::stdout().is_terminal()
    }

    /// The server of a command that uses only one: of a name the first address that
    /// takes the connection.
    pub(crate) fn server(&self) -> Uri {
        self.servers.first().map(|it| it.uri.clone()).unwrap_or_default()
    }

    /// The command and its servers, for people.
    pub(crate) fn tried(&self, command: &str) -> String {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        format!("{command} at {}", servers.join(", "))
    }
}

fn token(options: &ServerOptions) -> Result<Option<String>, String> {
    let Some(file) = &options.token_file else { return Ok(options.token.clone()) };
    let token = fs::read_to_string(file);
    token.map(Some).map_err(|error| format!("--token-file {}: {error}", file.display()))
}

fn tls_files(options: TlsOptions, is_https: bool) -> Result<TlsFiles, String> {
    let TlsOptions { ca, cert, key, is_typed } = options;
    match (is_https, is_typed) {
        (true, _) => {}
        (false, true) => {
            let reason = "--ca, --cert and --key need TLS; write --server https://host:port";
            return Err(reason.to_owned());
        }
        (false, false) => return Ok(TlsFiles::default()),
    }
    let identity = match (cert, key) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        _ => return Err("--cert and --key go together: give both, or neither".to_owned()),
    };
    Ok(TlsFiles { ca, identity, unverified: false })
}

/// The default port of a server.
const PORT: u16 = 50051;

/// Reads a server, or a name of several: `dns:///name:port` as gRPC has it, or with a
/// scheme `dns+https://name:port`.
fn target(text: &str) -> Result<Target, String> {
    if let Some(url) = text.strip_prefix("dns+") {
        return Ok(Target { uri: server_uri(url)?, is_name: true });
    }
    let Some(name) = text.strip_prefix("dns://") else {
        return Ok(Target { uri: server_uri(text)?, is_name: false });
    };
    match name.strip_prefix('/') {
        None => Err("a DNS server in the address is not supported: the system's resolver is used; write it \
                     as dns:///name:port, with three slashes"
            .to_owned()),
        Some(name) if name.contains('/') => {
            Err("write it as dns:///name:port, or for TLS as dns+https://name:port".to_owned())
        }
        Some(name) => Ok(Target { uri: server_uri(name)?, is_name: true }),
    }
}

/// Reads `host:port` as `http://host:port`, and a host alone as that host at the
/// default port. A URL without a port has the port of its scheme.
pub(crate) fn server_uri(text: &str) -> Result<Uri, String> {
    let is_host =
        |text: &str| text.ends_with(']') || !text.is_empty() && !text.contains([':', '/', '?', '#', '@']);
    let url = match text {
        url if url.contains("://") => url.to_owned(),
        host if is_host(host) => format!("http://{host}:{PORT}"),
        address => format!("http://{address}"),
    };
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
        return Err("a user name or a fragment is not allowed; write it as http://host:port".to_owned());
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    if has_port && !matches!(uri.port_u16(), Some(1..)) {
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
    fn a_name_of_several_servers_is_given_as_grpc_has_it_or_with_a_scheme() {
        let read = |text| target(text).map(|it| (it.uri.to_string(), it.is_name, it.to_string()));
        let name = |uri: &str, shown: &str| Ok((uri.to_owned(), true, shown.to_owned()));
        assert_eq!(read("dns:///x:1"), name("http://x:1/", "dns:///x:1"));
        assert_eq!(read("dns:///x"), name("http://x:50051/", "dns:///x:50051"));
        assert_eq!(read("dns+https://x:1"), name("https://x:1/", "dns+https://x:1/"));
        assert_eq!(read("dns:50051").map(|it| it.1), Ok(false));
        for wrong in
            ["dns://8.8.8.8/x:1", "dns://x:1", "dns:///", "dns:///https://x", "dns:///x:y", "dns+ftp://x"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read("dns://8.8.8.8/x:1").unwrap_err().contains("dns:///name:port"));
    }

    #[test]
    fn servers_are_given_by_host_and_port() {
        let uri = |text| server_uri(text).map(|uri| uri.to_string());
        assert_eq!(uri("http://127.0.0.1:50051").as_deref(), Ok("http://127.0.0.1:50051/"));
        assert_eq!(uri("localhost:1").as_deref(), Ok("http://localhost:1/"));
        assert_eq!(uri("[::1]:1").as_deref(), Ok("http://[::1]:1/"));
        assert_eq!(uri("localhost").as_deref(), Ok("http://localhost:50051/"));
        assert_eq!(uri("[::1]").as_deref(), Ok("http://[::1]:50051/"));
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

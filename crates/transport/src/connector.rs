//! From an address to a channel.
//!
//! A channel never connects again by itself: a peer that accepts and hangs up would
//! be called thousands of times a second.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use grpc_wire::limits;
use http::{Uri, uri::Authority};
use hyper_util::rt::TokioIo;
use keepalive::Watched;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::either::Either;
use tonic::{Code, metadata::MetadataMap, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::{BoxError, Service, service_fn};

use crate::{
    CallError, Channel, ConnectError, Counted, Kind, Onlookers, OutgoingMetadata, Stream, Tls, TlsError,
    TlsFiles, Traffic, dial, dial::dial_unix, is_tls,
};

/// What the client calls itself.
pub const USER_AGENT: &str = concat!("fourmodes/", env!("CARGO_PKG_VERSION"));

/// How long to wait for the first word of the server, which HTTP/2 has it say at
/// once. What a refusal was about would be lost if it came between the
/// connection and the first call; if it comes later, it ends that call.
const FIRST_WORD: Duration = Duration::from_millis(100);

/// How connections are made, and how they show that they are lost.
#[derive(Debug, Clone)]
pub struct Connector {
    /// For servers with TLS.
    pub tls: TlsFiles,
    /// After this long without a frame the server is asked whether it is there.
    pub keepalive_interval: Duration,
    /// How long the answer to that may take, once it has got to the server.
    pub keepalive_timeout: Duration,
    /// What goes along with every call.
    pub metadata: Arc<OutgoingMetadata>,
    /// What calls are for, when that is not the host that is connected to: it is in
    /// `:authority`, and the certificate has to be for it.
    pub authority: Option<Authority>,
    /// The Unix socket to connect to, whatever the address of the server says.
    pub socket: Option<PathBuf>,
    /// Who sees all that passes, above TLS.
    pub onlookers: Option<Onlookers>,
}

impl Default for Connector {
    /// In the clear, or with the CAs of the platform.
    fn default() -> Self {
        Self {
            tls: TlsFiles::default(),
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            keepalive_timeout: limits::KEEPALIVE_TIMEOUT,
            metadata: Arc::default(),
            authority: None,
            socket: None,
            onlookers: None,
        }
    }
}

impl Connector {
    /// Connects once, so that an address where nothing listens is an error now and
    /// not a call that fails later.
    ///
    /// # Errors
    ///
    /// When nothing accepts within five seconds, TLS included, or a file of PEM
    /// cannot be used, or the server refuses this client at once. That it speaks
    /// HTTP/2 shows only with the first call.
    pub async fn connect(&self, server: &Uri) -> Result<Channel, CallError> {
        self.connect_counted(server, Arc::default()).await
    }

    /// [`connect`](Self::connect), with a count of what passes the socket.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn connect_counted(&self, server: &Uri, traffic: Arc<Traffic>) -> Result<Channel, CallError> {
        let (hear, heard) = oneshot::channel();
        let endpoint = Endpoint::from(server.clone());
        let endpoint = match self.named(server) {
            Some(origin) => endpoint.origin(origin),
            None => endpoint,
        };
        let inner = endpoint
            .user_agent(USER_AGENT)?
            .connect_timeout(Duration::from_secs(5))
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .max_frame_size(limits::FRAME_SIZE)
            .http2_max_header_list_size(16 << 10)
            // Without these a network that swallows everything looks like a server
            // with nothing to say.
            .http2_keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(keepalive::NO_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector(self.once(self.tls(server)?, traffic, hear))
            .await?;
        match timeout(FIRST_WORD, heard).await {
            Ok(Ok(Err(error))) => Err(ConnectError::from(error).into()),
            _ => Ok(Channel { inner, metadata: self.metadata.clone() }),
        }
    }

    /// What TLS to a server takes, if its address says that it has TLS.
    ///
    /// # Errors
    ///
    /// As [`Tls::load`].
    pub fn tls(&self, server: &Uri) -> Result<Option<Tls>, CallError> {
        let named = self.named(server);
        is_tls(server).then(|| Tls::load(named.as_ref().unwrap_or(server), &self.tls)).transpose()
    }

    /// The server by the name that calls are for, if that is another one.
    fn named(&self, server: &Uri) -> Option<Uri> {
        let mut parts = server.clone().into_parts();
        parts.authority = Some(self.authority.clone()?);
        Uri::from_parts(parts).ok()
    }
}

type Watching = TokioIo<Watched<Stream<Counted>>>;

impl Connector {
    /// Connects the first time only. Left to itself a channel whose connection ends
    /// connects again at once and without end: against a peer that accepts and
    /// hangs up, thousands of times a second.
    fn once(
        &self,
        tls: Option<Tls>,
        traffic: Arc<Traffic>,
        hear: oneshot::Sender<Result<(), TlsError>>,
    ) -> impl Service<
        Uri,
        Response = Watching,
        Error = BoxError,
        Future = impl Future<Output = Result<Watching, BoxError>> + Send,
    > + Send
    + 'static {
        let keepalive_timeout = self.keepalive_timeout;
        let mut unused = Some((tls, traffic, hear, self.socket.clone(), self.onlookers.clone()));
        service_fn(move |server: Uri| {
            let connector = unused.take();
            async move {
                let Some((tls, traffic, hear, path, onlookers)) = connector else {
                    return Err("the connection has ended".into());
                };
                let socket = match path {
                    Some(path) => dial_unix(path).await?,
                    None => Either::Left(dial(&server).await?),
                };
                traffic.dialled.get_or_init(Instant::now);
                let is_tls = tls.is_some();
                let mut stream = Stream::open(Counted::new(socket, traffic.clone()), tls, hear).await?;
                if is_tls {
                    traffic.secured.get_or_init(Instant::now);
                }
                if let Some(onlookers) = onlookers {
                    stream.seen_by(onlookers.one());
                }
                Ok(TokioIo::new(Watched::client(stream, keepalive_timeout, |it| it.get_ref().tcp())))
            }
        })
    }
}

/// Whether a server says that it serves. One that has no opinion does.
///
/// # Errors
///
/// When it says something else, or does not answer.
pub async fn serves(channel: &Channel) -> Result<MetadataMap, CallError> {
    let whole_server = HealthCheckRequest { service: String::new() };
    match HealthClient::new(channel.inner.clone()).check(whole_server).await {
        Ok(response) => match response.get_ref().status() {
            ServingStatus::Serving => Ok(response.into_parts().0),
            other => {
                let message = format!("the server reports {}", other.as_str_name());
                Err(CallError::new(Kind::Status(Code::Unavailable), message))
            }
        },
        Err(status) if status.code() == Code::Unimplemented => Ok(MetadataMap::new()),
        Err(status) => Err(status.into()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Connected to a server that a test plays.
    pub(crate) async fn connected<F: Future<Output = ()> + Send + 'static>(
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> Channel {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
        Connector::default().connect(&server).await.unwrap()
    }

    fn frame(kind: u8, flags: u8, stream: [u8; 4], payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags], &stream[..], payload].concat()
    }

    fn field(name: &str, value: &str) -> Vec<u8> {
        let [length, value_length] = [name.len() as u8, value.len() as u8];
        [&[0, length], name.as_bytes(), &[value_length], value.as_bytes()].concat()
    }

    /// Says of each call that it serves, and sends an empty DATA frame with it, as
    /// some proxies do.
    async fn answer(mut client: TcpStream) {
        const END_HEADERS: u8 = 4;
        const END_STREAM: u8 = 1;
        client.read_exact(&mut [0; 24]).await.unwrap();
        client.write_all(&frame(4, 0, [0; 4], &[])).await.unwrap();
        let mut head = [0; 9];
        while client.read_exact(&mut head).await.is_ok() {
            let [a, b, c, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            client.read_exact(&mut payload).await.unwrap();
            match (kind, flags & 1) {
                // A setting is acknowledged without a payload, a ping with its own.
                (4, 0) => client.write_all(&frame(4, 1, [0; 4], &[])).await.unwrap(),
                (6, 0) => client.write_all(&frame(6, 1, [0; 4], &payload)).await.unwrap(),
                (0, END_STREAM) => {
                    let headers = [vec![0x88], field("content-type", "application/grpc")].concat();
                    let answer = [
                        frame(1, END_HEADERS, stream, &headers),
                        frame(0, 0, stream, &[]),
                        frame(0, 0, stream, &[0, 0, 0, 0, 2, 8, 1]),
                        frame(1, END_HEADERS | END_STREAM, stream, &field("grpc-status", "0")),
                    ];
                    client.write_all(&answer.concat()).await.unwrap();
                }
                _ => {}
            }
        }
    }

    #[tokio::test]
    async fn an_empty_frame_with_each_answer_ends_no_connection() {
        let channel = connected(answer).await;
        for _ in 0..1_000 {
            serves(&channel).await.unwrap();
        }
    }
}

//! From an address to a channel.
//!
//! A channel never connects again by itself: a peer that accepts and hangs up would
//! be called thousands of times a second.

use std::{sync::Arc, time::Duration};

use grpc_wire::limits;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{sync::oneshot, time::timeout};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::{BoxError, Service, service_fn};

use crate::{
    CallError, Channel, ConnectError, Counted, Kind, OutgoingMetadata, Stream, Tls, TlsError, TlsFiles,
    Traffic, dial, is_tls,
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
    /// How long the answer to that may take.
    pub keepalive_timeout: Duration,
    /// What goes along with every call.
    pub metadata: Arc<OutgoingMetadata>,
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
        let inner = Endpoint::from(server.clone())
            .user_agent(USER_AGENT)?
            .connect_timeout(Duration::from_secs(5))
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .max_frame_size(limits::FRAME_SIZE)
            .http2_max_header_list_size(16 << 10)
            // Without these a network that swallows everything looks like a server
            // with nothing to say.
            .http2_keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
            .keep_alive_while_idle(true)
            .connect_with_connector(once(self.tls(server)?, traffic, hear))
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
        is_tls(server).then(|| Tls::load(server, &self.tls)).transpose()
    }
}

/// Connects the first time only. Left to itself a channel whose connection ends
/// connects again at once and without end: against a peer that accepts and
/// hangs up, thousands of times a second.
fn once(
    tls: Option<Tls>,
    traffic: Arc<Traffic>,
    hear: oneshot::Sender<Result<(), TlsError>>,
) -> impl Service<
    Uri,
    Response = TokioIo<Stream<Counted>>,
    Error = BoxError,
    Future = impl Future<Output = Result<TokioIo<Stream<Counted>>, BoxError>> + Send,
> + Send
+ 'static {
    let mut unused = Some((tls, traffic, hear));
    service_fn(move |server: Uri| {
        let connector = unused.take();
        async move {
            let Some((tls, traffic, hear)) = connector else {
                return Err("the connection has ended".into());
            };
            let socket = Counted::new(dial(&server).await?, traffic);
            Ok(TokioIo::new(Stream::open(socket, tls, hear).await?))
        }
    })
}

/// Whether a server says that it serves. One that has no opinion does.
///
/// # Errors
///
/// When it says something else, or does not answer.
pub async fn serves(channel: &Channel) -> Result<(), CallError> {
    let whole_server = HealthCheckRequest { service: String::new() };
    match HealthClient::new(channel.inner.clone()).check(whole_server).await {
        Ok(response) => match response.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => {
                let message = format!("the server says that it is {}", other.as_str_name());
                Err(CallError::new(Kind::Status(Code::Unavailable), message))
            }
        },
        Err(status) if status.code() == Code::Unimplemented => Ok(()),
        Err(status) => Err(status.into()),
    }
}

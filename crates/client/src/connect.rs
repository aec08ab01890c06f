//! The channel: the client's half of what the server's layers do.

use std::{io, sync::Arc, time::Duration};

use grpc_wire::limits;
use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{sync::oneshot, time::timeout};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::{BoxError, Service, service_fn};

use crate::{
    config::Connection,
    failure::Failure,
    tls::{Stream, Tls, Trouble},
    traffic::{Counted, Traffic},
};

/// How long to wait for the first word of the server, which HTTP/2 has it say at
/// once. What a refusal was about would be lost if it came between the
/// connection and the first call; if it comes later, it ends that call.
const FIRST_WORD: Duration = Duration::from_millis(100);

/// Connects once, so that an address where nothing listens is an error now and
/// not a call that fails later.
///
/// # Errors
///
/// When nothing accepts within five seconds, TLS included, or a file of PEM
/// cannot be used, or the server refuses this client at once. That it speaks
/// HTTP/2 shows only with the first call.
pub(crate) async fn connect(server: &Uri, connection: &Connection) -> Result<Channel, Failure> {
    connect_counted(server, connection, Arc::default()).await
}

/// Likewise. What passes the socket is counted.
pub(crate) async fn connect_counted(
    server: &Uri,
    connection: &Connection,
    traffic: Arc<Traffic>,
) -> Result<Channel, Failure> {
    let tls = match server.scheme_str() {
        Some("https") => Some(Tls::load(server, &connection.tls)?),
        _ => None,
    };
    let (hear, heard) = oneshot::channel();
    let channel = Endpoint::from(server.clone())
        .user_agent(concat!("fourmodes/", env!("CARGO_PKG_VERSION")))?
        .connect_timeout(Duration::from_secs(5))
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::FRAME_SIZE)
        .http2_max_header_list_size(16 << 10)
        // Without these a network that swallows everything looks like a server
        // with nothing to say.
        .http2_keep_alive_interval(connection.keepalive_interval)
        .keep_alive_timeout(connection.keepalive_timeout)
        .keep_alive_while_idle(true)
        .connect_with_connector(once(tls, traffic, hear))
        .await?;
    match timeout(FIRST_WORD, heard).await {
        Ok(Ok(Err(trouble))) => Err(trouble.into()),
        _ => Ok(channel),
    }
}

/// Whether a server says that it serves. One that has no opinion does.
pub(crate) async fn serves(channel: &Channel) -> Result<(), Failure> {
    let whole_server = HealthCheckRequest { service: String::new() };
    match HealthClient::new(channel.clone()).check(whole_server).await {
        Ok(response) => match response.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => Err(Failure::not_serving(other.as_str_name())),
        },
        Err(status) if status.code() == Code::Unimplemented => Ok(()),
        Err(status) => Err(status.into()),
    }
}

/// Connects the first time only. Left to itself a channel whose connection ends
/// connects again at once and without end: against a peer that accepts and
/// hangs up, thousands of times a second.
fn once(
    tls: Option<Tls>,
    traffic: Arc<Traffic>,
    hear: oneshot::Sender<Result<(), Trouble>>,
) -> impl Service<
    Uri,
    Response = TokioIo<Stream>,
    Error = BoxError,
    Future = impl Future<Output = Result<TokioIo<Stream>, BoxError>> + Send,
> + Send
+ 'static {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let mut unused = Some((connector, tls, traffic, hear));
    service_fn(move |server| {
        let connector = unused.take();
        async move {
            let Some((mut connector, tls, traffic, hear)) = connector else {
                return Err("the connection has ended".into());
            };
            let socket = connector.call(server).await?.into_inner();
            // On one machine a client that calls a port where nobody
            // listens may be given that port itself, and then it reaches
            // itself and keeps the server from coming back.
            if socket.local_addr()? == socket.peer_addr()? {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
            }
            let socket = Counted::new(socket, traffic);
            Ok(TokioIo::new(Stream::open(socket, tls, hear).await?))
        }
    })
}

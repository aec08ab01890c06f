//! The traps of docs/lessons.md, tried with other Rust stacks: connectrpc's server and client,
//! and the client of the crate `grpc`. A test states what a stack does today. When a new version
//! fails it, the lesson's line about other stacks has to change.

mod bidi_deadlock;
mod cancelled_commit;
mod deadline_ends_nothing;
mod early_answer;
mod endless_shutdown;
mod eof_is_not_commit;
mod grpc_client;
mod hot_reconnect;
mod one_channel;
mod peer;
mod silent_peer;
mod small_messages;
mod unbounded;

mod generated {
    connectrpc::include_generated!();
}

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use connectrpc::{
    BoundServer, Protocol, Response, Router, Server, ServiceStream,
    client::{ClientConfig, Http2Connection, SharedHttp2Connection},
    client_streaming_handler_fn, streaming_handler_fn,
};
use futures_util::{Stream, StreamExt as _};
use generated::fourmodes::v1::{
    MeasureClientStreamingRequest, MeasureClientStreamingResponse, MeasureServerStreamingRequest,
    MeasureServerStreamingResponse, MeasureServiceClient,
};
use http::Uri;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

const SERVICE: &str = "fourmodes.v1.MeasureService";

/// A message of gRPC: five bytes, because all its fields have their defaults.
const EMPTY: Bytes = Bytes::from_static(&[0; 5]);

type Chunks = ServiceStream<MeasureClientStreamingRequest>;

/// A method that takes uploads.
fn uploads<F>(handler: impl Fn(Chunks) -> F + Send + Sync + 'static) -> Router
where
    F: Future<Output = ()> + Send + 'static,
{
    let handler = client_streaming_handler_fn(move |_, chunks| {
        let handled = handler(chunks);
        async {
            handled.await;
            Response::ok(MeasureClientStreamingResponse::default())
        }
    });
    Router::new().route_client_stream(SERVICE, "MeasureClientStreaming", handler)
}

/// A method that sends a message for each item.
fn feed<S>(items: impl Fn() -> S + Send + Sync + 'static) -> Router
where
    S: Stream<Item = ()> + Send + 'static,
{
    let handler = streaming_handler_fn(move |_, _: MeasureServerStreamingRequest| {
        let messages = items().map(|()| Ok(MeasureServerStreamingResponse::default()));
        async { Response::stream_ok(messages) }
    });
    Router::new().route_server_stream(SERVICE, "MeasureServerStreaming", handler)
}

/// A server of connectrpc with its defaults, which does not run yet.
async fn bind() -> (BoundServer, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (Server::from_listener(listener), address)
}

async fn serve(router: Router) -> SocketAddr {
    let (server, address) = bind().await;
    tokio::spawn(server.serve(router));
    address
}

/// A client of connectrpc with its defaults, on one connection.
async fn connect(address: SocketAddr) -> MeasureServiceClient<SharedHttp2Connection> {
    client(Http2Connection::connect_plaintext(uri(address)).await.unwrap(), address)
}

fn client(connection: Http2Connection, address: SocketAddr) -> MeasureServiceClient<SharedHttp2Connection> {
    let config = ClientConfig::new(uri(address)).with_protocol(Protocol::Grpc);
    MeasureServiceClient::new(connection.shared(16), config)
}

fn uri(address: SocketAddr) -> Uri {
    format!("http://{address}").parse().unwrap()
}

/// Waits for what comes at once, unless something hangs. The time is less than the 30 s that a
/// server of connectrpc gives a new connection.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("something hangs")
}

/// Whether something does not come, although it would come at once.
async fn hangs<T>(future: impl Future<Output = T>) -> bool {
    timeout(Duration::from_millis(500), future).await.is_err()
}

/// Whether something does not come within an hour. The clock of tokio jumps from timer to timer.
async fn hangs_for_an_hour<T>(future: impl Future<Output = T>) -> bool {
    tokio::time::pause();
    let hangs = timeout(Duration::from_secs(3600), future).await.is_err();
    tokio::time::resume();
    hangs
}

/// Sends a signal when it is dropped.
struct Dropped(mpsc::UnboundedSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

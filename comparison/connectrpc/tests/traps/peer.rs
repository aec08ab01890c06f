//! Both sides of HTTP/2 without a stack of gRPC.

use std::{future::pending, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
    server::SendResponse,
};
use http::{Request, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use crate::{EMPTY, SERVICE, soon};

/// A client with one connection.
pub(crate) struct Client {
    address: SocketAddr,
    requests: SendRequest<Bytes>,
    /// Notified, the client neither reads nor writes, and keeps the connection open.
    pub(crate) silence: Arc<Notify>,
    /// Returns how the connection ended.
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let (requests, mut connection) = h2::client::handshake(socket).await.unwrap();
        let silence = Arc::new(Notify::new());
        let silent = silence.clone();
        let connection = tokio::spawn(async move {
            tokio::select! {
                () = silent.notified() => pending().await,
                ended = &mut connection => ended,
            }
        });
        Self { address, requests, silence, connection }
    }

    /// Begins a call.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        headers: &[(&str, &str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let uri = format!("http://{}/{SERVICE}/{method}", self.address);
        let request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let mut requests = soon(self.requests.clone().ready()).await.unwrap();
        requests.send_request(request.body(()).unwrap(), false).unwrap()
    }

    /// The responses of a feed.
    pub(crate) async fn follow(&mut self, headers: &[(&str, &str)]) -> RecvStream {
        let (response, mut request) = self.call("MeasureServerStreaming", headers).await;
        request.send_data(EMPTY, true).unwrap();
        soon(response).await.unwrap().into_body()
    }
}

/// A server with one connection.
pub(crate) struct Server {
    calls: mpsc::UnboundedReceiver<Call>,
    /// Notified, the server neither reads nor writes, and keeps the connection open.
    pub(crate) silence: Arc<Notify>,
    /// Returns the error that ended the connection.
    pub(crate) connection: JoinHandle<Option<h2::Error>>,
}

pub(crate) struct Call {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
}

impl Server {
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, calls) = mpsc::unbounded_channel();
        let silence = Arc::new(Notify::new());
        let silent = silence.clone();
        let connection = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            loop {
                tokio::select! {
                    () = silent.notified() => pending().await,
                    call = connection.accept() => match call? {
                        Ok((request, respond)) => drop(taken.send(Call { request, respond })),
                        Err(error) => return Some(error),
                    },
                }
            }
        });
        (Self { calls, silence, connection }, address)
    }

    /// The next call.
    pub(crate) async fn call(&mut self) -> Call {
        soon(self.calls.recv()).await.unwrap()
    }
}

impl Call {
    /// Sends the head of a response.
    pub(crate) fn head(&mut self) -> SendStream<Bytes> {
        self.respond.send_response(head(&[]), false).unwrap()
    }
}

pub(crate) fn head(headers: &[(&str, &str)]) -> Response<()> {
    let response = Response::builder().header("content-type", "application/grpc");
    let response = headers.iter().fold(response, |response, (name, value)| response.header(*name, *value));
    response.body(()).unwrap()
}

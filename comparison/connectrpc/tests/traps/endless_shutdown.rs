use std::net::SocketAddr;

use futures_util::{StreamExt as _, stream};
use h2::RecvStream;
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle};

use crate::{bind, feed, hangs_for_an_hour, peer, soon};

/// A server that is to stop, and a client that follows a feed without an end. `before` connects
/// before the client does.
async fn stop<T>(before: impl AsyncFnOnce(SocketAddr) -> T) -> (T, RecvStream, JoinHandle<()>) {
    let (server, address) = bind().await;
    let router = feed(|| stream::iter([()]).chain(stream::pending()));
    let (stop, stopped) = oneshot::channel();
    let stopped = async { drop(stopped.await) };
    let serving = server.serve_with_graceful_shutdown(router, stopped);
    let server = tokio::spawn(async { serving.await.unwrap() });
    let before = before(address).await;
    let mut client = peer::Client::connect(address).await;
    let mut feed = client.follow(&[]).await;
    soon(feed.data()).await.unwrap().unwrap();
    stop.send(()).unwrap();
    (before, feed, server)
}

#[tokio::test]
async fn a_server_of_connectrpc_waits_for_a_stream() {
    let ((), feed, mut server) = stop(async |_| ()).await;
    assert!(hangs_for_an_hour(&mut server).await);
    drop(feed);
    soon(server).await.unwrap();
}

#[tokio::test]
async fn a_server_of_connectrpc_does_not_wait_for_a_silent_peer() {
    let (_silent, feed, server) = stop(async |address| TcpStream::connect(address).await.unwrap()).await;
    drop(feed);
    soon(server).await.unwrap();
}

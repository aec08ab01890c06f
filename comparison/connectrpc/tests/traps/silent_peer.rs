use std::time::Duration;

use connectrpc::{BoundServer, client::Http2Connection};
use futures_util::{StreamExt as _, stream};
use http::Uri;
use tokio::sync::mpsc;

use crate::{
    Dropped, bind, client, feed,
    generated::fourmodes::v1::MeasureServerStreamingRequest,
    grpc_client::{self, Call},
    hangs_for_an_hour, peer, soon, uri,
};

const PING: Duration = Duration::from_secs(10);

/// Whether a client waits for an hour.
async fn waits(connect: impl AsyncFnOnce(Uri) -> Http2Connection) -> bool {
    let (mut server, address) = peer::Server::start().await;
    let client = client(connect(uri(address)).await, address);
    let follow = client.measure_server_streaming(MeasureServerStreamingRequest::default());
    let (feed, _head) = soon(async { tokio::join!(follow, async { server.call().await.head() }) }).await;
    server.silence.notify_one();
    hangs_for_an_hour(feed.unwrap().message()).await
}

#[tokio::test]
async fn a_client_of_connectrpc_does_not_notice_silence_unless_it_pings() {
    assert!(waits(async |uri| Http2Connection::connect_plaintext(uri).await.unwrap()).await);
    let pings = async |uri| {
        let pings = Http2Connection::builder().keep_alive_interval(PING).keep_alive_timeout(PING);
        pings.connect_plaintext(uri).await.unwrap()
    };
    assert!(!waits(pings).await);
}

#[tokio::test]
async fn a_client_of_grpc_does_not_notice_silence() {
    let (mut server, address) = peer::Server::start().await;
    let mut feed = Call::begin(&grpc_client::connect(address), "MeasureServerStreaming").await;
    let _head = server.call().await.head();
    feed.headers().await;
    server.silence.notify_one();
    assert!(hangs_for_an_hour(feed.receive()).await);
}

/// Whether a server keeps a stream for an hour.
async fn keeps(set: impl FnOnce(BoundServer) -> BoundServer) -> bool {
    let (tell, mut dropped) = mpsc::unbounded_channel();
    let router = feed(move || {
        let held = Dropped(tell.clone());
        stream::iter([()]).chain(stream::pending()).inspect(move |()| {
            let _ = &held;
        })
    });
    let (server, address) = bind().await;
    tokio::spawn(set(server).serve(router));
    let mut client = peer::Client::connect(address).await;
    let mut feed = client.follow(&[]).await;
    soon(feed.data()).await.unwrap().unwrap();
    client.silence.notify_one();
    hangs_for_an_hour(dropped.recv()).await
}

#[tokio::test]
async fn a_server_of_connectrpc_does_not_notice_silence_unless_it_pings() {
    assert!(keeps(|server| server).await);
    let pings =
        |server: BoundServer| server.with_http2_keepalive_interval(PING).with_http2_keepalive_timeout(PING);
    assert!(!keeps(pings).await);
}

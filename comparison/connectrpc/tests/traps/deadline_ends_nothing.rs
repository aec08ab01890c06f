use std::{
    future::pending,
    time::{Duration, Instant},
};

use connectrpc::{ConnectRpcService, DeadlinePolicy, ErrorCode, Router, client::CallOptions};
use futures_util::stream;
use h2::RecvStream;
use http::HeaderMap;
use tokio::time::interval;

use crate::{
    bind, connect, feed,
    generated::fourmodes::v1::MeasureServerStreamingRequest,
    grpc_client::{self, Call},
    hangs, peer, serve, soon, uploads,
};

const LIMIT: Duration = Duration::from_millis(500);
const HEADER: (&str, &str) = ("grpc-timeout", "500m");
const DEADLINE_EXCEEDED: &str = "4";

/// A feed without an end, and an upload without one.
fn endless() -> Router {
    let ticks = || {
        stream::unfold(None, |ticks| async {
            let mut ticks = ticks.unwrap_or_else(|| interval(LIMIT / 10));
            ticks.tick().await;
            Some(((), Some(ticks)))
        })
    };
    feed(ticks).merge(uploads(|_| pending()))
}

/// The trailers of a feed, unless it goes on for three times the limit.
async fn trailers(mut feed: RecvStream) -> Option<HeaderMap> {
    let begun = Instant::now();
    while let Some(message) = soon(feed.data()).await {
        message.unwrap();
        if begun.elapsed() > 3 * LIMIT {
            return None;
        }
    }
    Some(soon(feed.trailers()).await.unwrap().expect("trailers"))
}

#[tokio::test]
async fn a_deadline_ends_no_stream_of_a_server_of_connectrpc_and_cuts_an_upload() {
    let mut client = peer::Client::connect(serve(endless()).await).await;
    assert_eq!(trailers(client.follow(&[HEADER]).await).await, None);

    let (response, _chunks) = client.call("MeasureClientStreaming", &[HEADER]).await;
    assert_eq!(soon(response).await.unwrap().headers()["grpc-status"], DEADLINE_EXCEEDED);
}

#[tokio::test]
async fn a_policy_of_connectrpc_lets_a_deadline_end_a_stream() {
    let (server, address) = bind().await;
    let policy = DeadlinePolicy::new().with_enforce_on_streams(true);
    let service = ConnectRpcService::new(endless()).with_deadline_policy(policy);
    tokio::spawn(server.serve_with_service(service));
    let mut client = peer::Client::connect(address).await;
    let trailers = trailers(client.follow(&[HEADER]).await).await;
    assert_eq!(trailers.unwrap()["grpc-status"], DEADLINE_EXCEEDED);
}

#[tokio::test]
async fn a_client_of_connectrpc_ends_a_stream_at_its_deadline() {
    let client = connect(serve(endless()).await).await;
    let options = CallOptions::default().with_timeout(LIMIT);
    let request = MeasureServerStreamingRequest::default();
    let mut feed = client.measure_server_streaming_with_options(request, options).await.unwrap();
    let ended = loop {
        match soon(feed.message()).await {
            Ok(message) => assert!(message.is_some()),
            Err(error) => break error,
        }
    };
    assert_eq!(ended.code, ErrorCode::DeadlineExceeded);
}

#[tokio::test]
async fn a_client_of_grpc_neither_sends_a_deadline_nor_keeps_to_it() {
    let (mut server, address) = peer::Server::start().await;
    let channel = grpc_client::connect(address);
    let mut options = grpc::client::CallOptions::default();
    options.set_deadline(Instant::now() + LIMIT / 5);
    let mut call = Call::with(options, &channel, "MeasureUnary").await;
    let received = server.call().await;
    assert!(!received.request.headers().contains_key(HEADER.0));
    assert!(hangs(call.receive()).await);
}

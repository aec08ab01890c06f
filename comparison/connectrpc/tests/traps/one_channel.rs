use grpc::client::ResponseStreamItem;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    EMPTY, connect,
    generated::fourmodes::v1::{MeasureServerStreamingRequest, MeasureUnaryRequest},
    grpc_client::{self, Call},
    hangs, peer, soon,
};

/// Answers three calls with more than their windows take.
async fn feed(server: &mut peer::Server) {
    for _ in 0..3 {
        server.call().await.head().send_data(vec![0; 8 << 20].into(), true).unwrap();
    }
}

/// Answers a unary call.
async fn answer(server: &mut peer::Server) {
    let mut answer = server.call().await.head();
    answer.send_data(EMPTY, false).unwrap();
    let ok = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    answer.send_trailers(HeaderMap::from_iter([ok])).unwrap();
}

#[tokio::test]
async fn three_unread_streams_block_a_connection_of_connectrpc() {
    let (mut server, address) = peer::Server::start().await;
    let client = connect(address).await;
    let follow = || client.measure_server_streaming(MeasureServerStreamingRequest::default());
    let feeds = async { tokio::join!(follow(), follow(), follow()) };
    let (feeds, ()) = soon(async { tokio::join!(feeds, feed(&mut server)) }).await;
    let mut order = Box::pin(client.measure_unary(MeasureUnaryRequest::default()));
    assert!(hangs(async { tokio::join!(&mut order, answer(&mut server)) }).await);
    drop(feeds);
    soon(order).await.unwrap();
}

#[tokio::test]
async fn three_unread_streams_block_a_channel_of_grpc() {
    let (mut server, address) = peer::Server::start().await;
    let channel = grpc_client::connect(address);
    let mut feeds = Vec::new();
    for _ in 0..3 {
        feeds.push(Call::begin(&channel, "MeasureServerStreaming").await);
    }
    feed(&mut server).await;
    let mut order = Call::begin(&channel, "MeasureUnary").await;
    answer(&mut server).await;
    order.headers().await;
    let mut message = Box::pin(order.receive());
    assert!(hangs(&mut message).await);
    drop(feeds);
    assert!(matches!(soon(message).await, ResponseStreamItem::Message));
}

use std::future::pending;

use bytes::Bytes;
use h2::{Reason, SendStream};

use crate::{
    EMPTY, connect,
    generated::fourmodes::v1::MeasureServerStreamingRequest,
    grpc_client::{self, Call},
    peer, serve, soon, uploads,
};

/// With the windows of tonic's client, 10,400 of them may wait.
const TO_A_CLIENT: usize = 11_000;
const TO_A_SERVER: usize = 200;

/// Sends messages, each in a frame of its own.
fn send(stream: &mut SendStream<Bytes>, messages: usize) {
    for _ in 0..messages {
        stream.send_data(EMPTY, false).unwrap();
    }
}

#[tokio::test]
async fn a_server_of_connectrpc_ends_a_connection_after_a_few_messages() {
    let router = uploads(|chunks| async {
        let _chunks = chunks;
        pending().await
    });
    let mut client = peer::Client::connect(serve(router).await).await;
    let (_response, mut chunks) = client.call("MeasureClientStreaming", &[]).await;
    send(&mut chunks, TO_A_SERVER);
    let ended = soon(client.connection).await.unwrap().unwrap_err();
    assert_eq!(ended.reason(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_client_of_connectrpc_ends_a_connection_as_tonic_does() {
    let (mut server, address) = peer::Server::start().await;
    let client = connect(address).await;
    let follow = || client.measure_server_streaming(MeasureServerStreamingRequest::default());
    let (_ana, mut anas) = tokio::join!(follow(), async { server.call().await.head() });
    let (ben, _bens) = tokio::join!(follow(), async { server.call().await.head() });
    send(&mut anas, TO_A_CLIENT);
    let ended = soon(server.connection).await.unwrap().unwrap();
    assert_eq!(ended.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    soon(ben.unwrap().message()).await.unwrap_err();
}

#[tokio::test]
async fn a_client_of_grpc_ends_a_connection_as_tonic_does() {
    let (mut server, address) = peer::Server::start().await;
    let channel = grpc_client::connect(address);
    let mut ana = Call::begin(&channel, "MeasureServerStreaming").await;
    let mut anas = server.call().await.head();
    let mut ben = Call::begin(&channel, "MeasureServerStreaming").await;
    let _bens = server.call().await.head();
    ana.headers().await;
    ben.headers().await;
    send(&mut anas, TO_A_CLIENT);
    let ended = soon(server.connection).await.unwrap().unwrap();
    assert_eq!(ended.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    ben.error().await;
}

use connectrpc::{Response, Router, ServiceStream, bidi_streaming_handler_fn};
use futures_util::StreamExt as _;
use grpc::client::ResponseStreamItem;

use crate::{
    EMPTY, SERVICE, connect,
    generated::fourmodes::v1::{MeasureBidiStreamingRequest, MeasureBidiStreamingResponse},
    grpc_client::{self, Call},
    hangs, peer, serve, soon,
};

/// A handler that reads a message before it returns the stream of its answers.
fn reads_first() -> Router {
    let chat = async |mut texts: ServiceStream<MeasureBidiStreamingRequest>| {
        texts.next().await;
        Response::stream_ok(texts.map(|_| Ok(MeasureBidiStreamingResponse::default())))
    };
    let chat = bidi_streaming_handler_fn(move |_, texts| chat(texts));
    Router::new().route_bidi_stream(SERVICE, "MeasureBidiStreaming", chat)
}

#[tokio::test]
async fn a_server_of_connectrpc_sends_no_headers_before_the_handler_returns() {
    let mut client = peer::Client::connect(serve(reads_first()).await).await;
    let (mut response, mut texts) = client.call("MeasureBidiStreaming", &[]).await;
    assert!(hangs(&mut response).await);
    texts.send_data(EMPTY, false).unwrap();
    soon(response).await.unwrap();
}

#[tokio::test]
async fn a_client_of_connectrpc_speaks_before_the_headers_are_there() {
    let client = connect(serve(reads_first()).await).await;
    let mut chat = soon(client.measure_bidi_streaming()).await.unwrap();
    for _ in 0..2 {
        chat.send(MeasureBidiStreamingRequest::default()).await.unwrap();
    }
    assert!(soon(chat.message()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_client_of_grpc_speaks_before_the_headers_are_there() {
    let channel = grpc_client::connect(serve(reads_first()).await);
    let mut chat = Call::begin(&channel, "MeasureBidiStreaming").await;
    for _ in 0..2 {
        chat.send().await.unwrap();
    }
    chat.headers().await;
    assert!(matches!(soon(chat.receive()).await, ResponseStreamItem::Message));
}

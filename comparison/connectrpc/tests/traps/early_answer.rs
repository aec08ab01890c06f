use connectrpc::ErrorCode;
use futures_util::stream;
use tokio::{sync::mpsc, task::yield_now};

use crate::{
    connect,
    generated::fourmodes::v1::{MeasureBidiStreamingRequest, MeasureClientStreamingRequest},
    grpc_client::{self, Call},
    peer, soon,
};

const REASON: &str = "the disk is full";

/// Answers the next call. What it sends later is not read.
async fn refuse(server: &mut peer::Server) {
    let refusal = peer::head(&[("grpc-status", "8"), ("grpc-message", REASON)]);
    server.call().await.respond.send_response(refusal, true).unwrap();
}

#[tokio::test]
async fn what_a_client_of_connectrpc_sends_too_late_fails_with_an_error_of_its_own() {
    let (mut server, address) = peer::Server::start().await;
    let client = connect(address).await;
    let mut chat = client.measure_bidi_streaming().await.unwrap();
    refuse(&mut server).await;
    let late = async {
        loop {
            match chat.send(MeasureBidiStreamingRequest::default()).await {
                Ok(()) => yield_now().await,
                Err(error) => return error,
            }
        }
    };
    assert_eq!(soon(late).await.code, ErrorCode::Unavailable);
    let answer = soon(chat.message()).await.unwrap_err();
    assert_eq!((answer.code, answer.message.as_deref()), (ErrorCode::ResourceExhausted, Some(REASON)));
}

#[tokio::test]
async fn a_client_of_connectrpc_lets_go_of_what_an_answered_upload_sends() {
    let (mut server, address) = peer::Server::start().await;
    let client = connect(address).await;
    let (chunks, mut to_send) = mpsc::channel::<MeasureClientStreamingRequest>(1);
    let upload = client.measure_client_streaming(stream::poll_fn(move |context| to_send.poll_recv(context)));
    let (answer, ()) = soon(async { tokio::join!(upload, refuse(&mut server)) }).await;
    assert_eq!(answer.err().and_then(|answer| answer.message).as_deref(), Some(REASON));
    soon(chunks.closed()).await;
}

#[tokio::test]
async fn what_a_client_of_grpc_sends_too_late_fails_without_a_reason() {
    let (mut server, address) = peer::Server::start().await;
    let mut upload = Call::begin(&grpc_client::connect(address), "MeasureClientStreaming").await;
    refuse(&mut server).await;
    let late = async {
        while upload.send().await == Ok(()) {
            yield_now().await;
        }
    };
    soon(late).await;
    assert_eq!(upload.error().await, REASON);
}

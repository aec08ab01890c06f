use futures_util::StreamExt as _;
use h2::Reason;
use tokio::sync::mpsc;

use crate::{
    EMPTY,
    grpc_client::{self, Call},
    peer, serve, soon, uploads,
};

#[tokio::test]
async fn a_server_of_connectrpc_shows_a_cancelled_upload_as_an_error() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let router = uploads(move |mut chunks| {
        let tell = tell.clone();
        // As a task, which the server does not drop before it has seen the end.
        let read = tokio::spawn(async move {
            while let Some(chunk) = chunks.next().await {
                let _ = tell.send(Some(chunk.is_ok()));
            }
            let _ = tell.send(None);
        });
        async { drop(read.await) }
    });
    let mut client = peer::Client::connect(serve(router).await).await;
    let (_response, mut chunks) = client.call("MeasureClientStreaming", &[]).await;
    chunks.send_data(EMPTY, false).unwrap();
    assert_eq!(soon(told.recv()).await, Some(Some(true)), "a chunk");
    chunks.send_reset(Reason::CANCEL);
    assert_eq!(soon(told.recv()).await, Some(Some(false)), "an error");
}

#[tokio::test]
async fn a_client_of_grpc_ends_an_upload_that_it_cancels_as_a_complete_one() {
    let (mut server, address) = peer::Server::start().await;
    let mut upload = Call::begin(&grpc_client::connect(address), "MeasureClientStreaming").await;
    let mut body = server.call().await.request.into_body();
    upload.send().await.unwrap();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), EMPTY);
    // This is how its documentation says to cancel a call.
    drop(upload.responses);
    while let Some(data) = soon(body.data()).await {
        assert_eq!(data.expect("the client resets the stream"), "");
    }
}

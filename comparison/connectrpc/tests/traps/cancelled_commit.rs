use std::future::pending;

use connectrpc::{Response, Router, handler_fn};
use h2::Reason;
use tokio::sync::mpsc;

use crate::{
    Dropped, EMPTY, SERVICE,
    generated::fourmodes::v1::{MeasureUnaryRequest, MeasureUnaryResponse},
    peer, serve, soon,
};

#[tokio::test]
async fn a_server_of_connectrpc_drops_the_handler_of_a_client_that_leaves() {
    let (begin, mut begun) = mpsc::unbounded_channel();
    let (drop, mut dropped) = mpsc::unbounded_channel();
    let order = handler_fn(move |_, _: MeasureUnaryRequest| {
        let handler = Dropped(drop.clone());
        let _ = begin.send(());
        async {
            let _handler = handler;
            pending::<()>().await;
            Response::ok(MeasureUnaryResponse::default())
        }
    });
    let router = Router::new().route(SERVICE, "MeasureUnary", order);
    let mut client = peer::Client::connect(serve(router).await).await;

    let (_response, mut body) = client.call("MeasureUnary", &[]).await;
    body.send_data(EMPTY, true).unwrap();
    soon(begun.recv()).await.unwrap();
    body.send_reset(Reason::CANCEL);
    soon(dropped.recv()).await.unwrap();
}

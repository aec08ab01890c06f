use std::{net::SocketAddr, time::Duration};

use connectrpc::client::Http2Connection;
use tokio::{net::TcpListener, sync::watch, time::timeout};

use crate::{
    client,
    generated::fourmodes::v1::MeasureUnaryRequest,
    grpc_client::{self, Call},
    uri,
};

const MANY: usize = 50;

/// A server that accepts connections, counts them and hangs up.
async fn hangs_up() -> (SocketAddr, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (count, accepted) = watch::channel(0);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.send_modify(|count| *count += 1);
        }
    });
    (address, accepted)
}

/// With the usual pauses, which grow from a second on, many connections take minutes.
async fn without_a_pause<T>(connections: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(5), connections).await.expect("the client pauses")
}

#[tokio::test]
async fn a_client_of_connectrpc_connects_once_for_each_call_and_at_once() {
    let (address, accepted) = hangs_up().await;
    let client = client(Http2Connection::lazy_plaintext(uri(address)), address);
    without_a_pause(async {
        for _ in 0..MANY {
            assert!(client.measure_unary(MeasureUnaryRequest::default()).await.is_err());
        }
    })
    .await;
    assert_eq!(*accepted.borrow(), MANY);
}

/// Which of the two depends on when the client notices that the connection has ended.
#[tokio::test]
async fn a_client_of_grpc_connects_again_and_again_within_a_call_or_panics() {
    let (address, mut accepted) = hangs_up().await;
    let channel = grpc_client::connect(address);
    let call = tokio::spawn(async move { Call::begin(&channel, "MeasureUnary").await.receive().await });
    without_a_pause(async {
        tokio::select! {
            many = accepted.wait_for(|accepted| *accepted >= MANY) => drop(many.unwrap()),
            ended = call => assert!(ended.unwrap_err().is_panic()),
        }
    })
    .await;
}

//! A server that ends calls at their deadlines by itself, as those of grpc-go do: by a
//! reset that may come before the client's own timer.

use grpc_wire::timeout::{GRPC_TIMEOUT, parse};
use h2::Reason;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time::sleep,
};

use crate::client;

async fn serve(client: TcpStream, answers: bool) {
    let Ok(mut calls) = h2::server::handshake(client).await else { return };
    while let Some(Ok((request, mut respond))) = calls.accept().await {
        tokio::spawn(async move {
            let time = request.headers().get(&GRPC_TIMEOUT).and_then(parse).unwrap();
            let head = http::Response::builder().header("content-type", "application/grpc");
            let answer = answers.then(|| respond.send_response(head.body(()).unwrap(), false).unwrap());
            sleep(time).await;
            match answer {
                Some(mut answer) => answer.send_reset(Reason::CANCEL),
                None => respond.send_reset(Reason::CANCEL),
            }
        });
    }
}

#[test]
fn whoever_is_first_to_end_a_call_at_its_deadline_it_is_exceeded() {
    let runtime = Runtime::new().unwrap();
    for answers in [false, true] {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, answers));
            }
        });
        for call in [
            "unary multiply 6 7",
            "server-streaming quotes",
            "server-streaming system",
            "client-streaming readings -",
            "bidi-streaming chat --room r --name ana",
        ] {
            for _ in 0..2 {
                let call = client(&format!("{call} --deadline 100ms --server {address}"));
                call.stdin("device,time,value\na,2026-01-01T00:00:00Z,1\n")
                    .run()
                    .failed(1, &["DEADLINE_EXCEEDED"]);
            }
        }
    }
}

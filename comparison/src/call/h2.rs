//! HTTP/2 alone: the frames of a unary call of gRPC.

use std::{net::SocketAddr, time::Instant};

use bytes::Bytes;
use grpc_wire::limits;
use h2::client::{self, SendRequest};
use http::{Method, Request, header};
use tokio::{net::TcpStream, task::JoinSet};

use super::Done;
use crate::work::Work;

pub(super) async fn go_on(address: SocketAddr, work: Work, done: Done) -> anyhow::Result<()> {
    let (connections, at_once) = work.in_flight();
    // A message of gRPC: not compressed, its length, its bytes.
    let length = u32::try_from(work.message())?.to_be_bytes();
    let message = Bytes::from([&[0], &length[..], &vec![0; work.message()]].concat());
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = client::Builder::new()
            .initial_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .handshake(socket)
            .await?;
        tasks.spawn(async { Ok(connection.await?) });
        for _ in 0..at_once {
            let (sender, message, done) = (sender.clone(), message.clone(), done.clone());
            tasks.spawn(calls(sender, format!("http://{address}/measured/Call"), message, done));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn calls(sender: SendRequest<Bytes>, uri: String, message: Bytes, done: Done) -> anyhow::Result<()> {
    let mut sender = sender;
    loop {
        sender = sender.ready().await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(&uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())?;
        let sent = Instant::now();
        let (response, mut stream) = sender.send_request(request, false)?;
        stream.send_data(message.clone(), true)?;
        let mut body = response.await?.into_body();
        while let Some(data) = body.data().await {
            let length = data?.len();
            body.flow_control().release_capacity(length)?;
        }
        body.trailers().await?;
        done.answered(sent);
    }
}

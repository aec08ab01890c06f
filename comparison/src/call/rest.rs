//! JSON over HTTP/1.1.

use std::{net::SocketAddr, time::Instant};

use anyhow::ensure;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, task::JoinSet};

use super::Done;
use crate::work::Work;

const QUESTION: &[u8] = br#"{"a":6,"b":7}"#;

#[derive(Deserialize)]
struct Product {
    product: i64,
}

/// A connection for each call in flight: HTTP/1.1 has one at a time on each.
pub(super) async fn go_on(address: SocketAddr, work: Work, done: Done) -> anyhow::Result<()> {
    let (connections, at_once) = work.in_flight();
    let mut tasks = JoinSet::new();
    for _ in 0..connections * at_once {
        tasks.spawn(calls(address, done.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn calls(address: SocketAddr, done: Done) -> anyhow::Result<()> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let connected = tokio::spawn(connection);
    let calling = async {
        loop {
            let request = Request::builder()
                .method(Method::POST)
                .uri("/multiply")
                .header(header::HOST, "127.0.0.1")
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from_static(QUESTION)))?;
            sender.ready().await?;
            let sent = Instant::now();
            let response = sender.send_request(request).await?;
            let body = response.into_body().collect().await?.to_bytes();
            let Product { product } = serde_json::from_slice(&body)?;
            ensure!(product == 42, "6 × 7 = {product}");
            done.answered(sent);
        }
    };
    tokio::select! {
        ended = connected => Ok(ended??),
        ended = calling => ended,
    }
}

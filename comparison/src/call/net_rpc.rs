//! Go's net/rpc over TCP.

use std::{net::SocketAddr, time::Instant};

use anyhow::ensure;
use net_rpc::{Client, ClientLimits, Transport};
use tokio::{net::TcpStream, task::JoinSet};

use super::Done;
use crate::{
    serve::net_rpc::{Args, MULTIPLY},
    work::Work,
};

/// All calls share one connection, and answers may overtake.
pub(super) async fn go_on(
    address: SocketAddr,
    work: Work,
    transport: Transport,
    done: Done,
) -> anyhow::Result<()> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let client = Client::connect(socket, transport, ClientLimits::default(), |_| ()).await?;
    let (_, in_flight) = work.in_flight();
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        tasks.spawn(calls(client.clone(), done.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn calls(client: Client, done: Done) -> anyhow::Result<()> {
    loop {
        let sent = Instant::now();
        let product: i64 = client.call(MULTIPLY, &Args { a: 6, b: 7 }).await?;
        ensure!(product == 42, "6 × 7 = {product}");
        done.answered(sent);
    }
}

//! What a call takes on the wire, counted by a relay.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::bail;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::sleep,
};

use crate::{
    call::{self, Done, block_on},
    progress::Progress,
    settings::Settings,
    target::Target,
    work::{Contestant, Work},
};

/// Calls that are counted, after as many that are not: those pay for the connection.
const CALLS: u64 = 1_000;

/// Bytes of TCP's payload for a call, one at a time on one connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wire {
    pub(crate) contestant: Contestant,
    pub(crate) request: f64,
    pub(crate) response: f64,
}

pub(crate) fn measure(settings: &Settings, progress: &Progress) -> anyhow::Result<Vec<Wire>> {
    let contestants = Work::Multiply1.contestants();
    progress.begin("wire", contestants.len());
    let each = contestants.iter().map(|&contestant| {
        progress.step(contestant.to_string());
        let target = Target::pinned(contestant, settings)?;
        block_on(bytes(contestant, target.address))
    });
    each.collect()
}

async fn bytes(contestant: Contestant, target: SocketAddr) -> anyhow::Result<Wire> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, done) = (listener.local_addr()?, Done::new()?);
    let [sent, received] = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let relaying = relay(listener, target, sent.clone(), received.clone());
    let counting = async {
        let mut counts = Vec::new();
        for calls in [CALLS, 2 * CALLS] {
            while done.count() < calls {
                sleep(Duration::from_millis(1)).await;
            }
            counts.push([done.count(), sent.load(Relaxed), received.load(Relaxed)].map(|it| it as f64));
        }
        let [calls, request, response] = [0, 1, 2].map(|of| counts[1][of] - counts[0][of]);
        Wire { contestant, request: request / calls, response: response / calls }
    };
    tokio::select! {
        counted = counting => Ok(counted),
        ended = relaying => {
            ended?;
            bail!("the connection has ended")
        }
        ended = call::go_on(contestant, address, Work::Multiply1, done.clone()) => {
            ended?;
            bail!("the calls have ended")
        }
    }
}

async fn relay(
    listener: TcpListener,
    target: SocketAddr,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
) -> io::Result<()> {
    let (client, _) = listener.accept().await?;
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::try_join!(copy(from_client, to_server, &sent), copy(from_server, to_client, &received))?;
    Ok(())
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        count.fetch_add(read as u64, Relaxed);
        to.write_all(&buffer[..read]).await?;
    }
}

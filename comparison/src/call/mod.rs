//! The clients, each as lean as its protocol lets it be.

pub(crate) mod grpc;
mod h2;
mod net_rpc;
mod rest;
mod tcp;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use ::net_rpc::Transport;
use anyhow::Context as _;
use tokio::runtime;

use crate::{
    latency::Latencies,
    work::{Contestant, Work},
};

/// What was done so far.
#[derive(Clone)]
pub(crate) struct Done {
    count: Arc<AtomicU64>,
    /// From a message to its answer, where it has one of its own.
    pub(crate) answers: Latencies,
}

impl Done {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { count: Arc::default(), answers: Latencies::new()? })
    }

    pub(crate) fn more(&self, count: u64) {
        self.count.fetch_add(count, Relaxed);
    }

    /// One more, which has the answer to what was sent then.
    pub(crate) fn answered(&self, sent: Instant) {
        self.answers.record(sent.elapsed());
        self.more(1);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }
}

/// Works until it is dropped; it ends by itself only with an error.
pub(crate) async fn go_on(
    contestant: Contestant,
    address: SocketAddr,
    work: Work,
    done: Done,
) -> anyhow::Result<()> {
    match contestant {
        Contestant::Ours
        | Contestant::BareTonic
        | Contestant::TunedTonic
        | Contestant::Connectrpc
        | Contestant::GrpcGo
        | Contestant::GrpcCpp
        | Contestant::GrpcJava => grpc::go_on(address, work, done).await,
        Contestant::H2 => h2::go_on(address, work, done).await,
        Contestant::Tcp => tcp::go_on(address, work, done).await,
        Contestant::Rest => rest::go_on(address, work, done).await,
        Contestant::NetRpcGob => net_rpc::go_on(address, work, Transport::Tcp, done).await,
        Contestant::NetRpcJson => net_rpc::go_on(address, work, Transport::Json, done).await,
    }
    .with_context(|| format!("{work:?} of {contestant:?} at {address}"))
}

/// Runs `what` on a runtime of its own, whose tasks and connections end with it.
pub(crate) fn block_on<T>(what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(what)
}

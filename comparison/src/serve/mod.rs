//! The others: what the server is measured against.

mod grpc;
mod h2;
pub(crate) mod net_rpc;
mod rest;
pub(crate) mod tcp;

use std::{io::Write as _, net::SocketAddr};

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;

use crate::work::Contestant;

/// Serves on an address, which is the first line of stdout, until the process is
/// ended.
///
/// # Errors
///
/// When it cannot listen, and for ours, which is a program of its own.
pub fn serve(contestant: Contestant, listen: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {listen}"))?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
        stdout.flush()?;
        match contestant {
            Contestant::Ours => bail!("ours is a program of its own: fourmodes-server all"),
            Contestant::Connectrpc | Contestant::GrpcGo | Contestant::GrpcCpp | Contestant::GrpcJava => {
                bail!("{contestant} is a program of its own: see comparison/{contestant}")
            }
            Contestant::BareTonic => grpc::bare(listener).await,
            Contestant::TunedTonic => grpc::tuned(listener).await,
            Contestant::H2 => h2::serve(listener).await,
            Contestant::Tcp => tcp::serve(listener).await,
            Contestant::Rest => rest::serve(listener).await,
            // The first bytes of a connection say which.
            Contestant::NetRpcGob | Contestant::NetRpcJson => net_rpc::serve(listener).await,
        }
    })
}

//! The others: what the server is measured against.

mod grpc;
mod h2;
mod json_rpc;
mod rest;
pub(crate) mod tcp;

use std::io::Write as _;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;

use crate::work::Contestant;

/// Serves on a free port of 127.0.0.1, which is the first line of stdout, until
/// the process is ended.
///
/// # Errors
///
/// When it cannot listen, and for ours, which is a program of its own.
pub fn serve(contestant: Contestant) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on 127.0.0.1")?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
        stdout.flush()?;
        match contestant {
            Contestant::Ours => bail!("ours is a binary of its own: server all"),
            Contestant::BareTonic => grpc::bare(listener).await,
            Contestant::TunedTonic => grpc::tuned(listener).await,
            Contestant::H2 => h2::serve(listener).await,
            Contestant::Tcp => tcp::serve(listener).await,
            Contestant::Rest => rest::serve(listener).await,
            Contestant::JsonRpc => json_rpc::serve(listener).await,
        }
    })
}

//! Go's net/rpc, as our server serves it, without its log and its metrics.

use net_rpc::{Registry, ServerLimits};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

pub(crate) const MULTIPLY: &str = "MathService.Multiply";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) struct Args {
    pub(crate) a: i64,
    pub(crate) b: i64,
}

pub(super) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let mut registry = Registry::new();
    registry.register(MULTIPLY, async |Args { a, b }: Args| a.checked_mul(b).ok_or("overflow"))?;
    let limits = ServerLimits::default();
    net_rpc::serve(listener, registry.into(), limits, |_, _| (), std::future::pending()).await;
    Ok(())
}

//! Go's net/rpc on a port of its own: the service of its tutorials, unchanged.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use domain::arithmetic;
use net_rpc::{Call, Event, Registry, ServerLimits, gob, serve};
use serde::{Deserialize, Serialize};
use stack::{
    Lines, Settings, Stack,
    prometheus_client::{
        metrics::{
            counter::Counter,
            family::Family,
            gauge::Gauge,
            histogram::{Histogram, exponential_buckets},
        },
        registry::Unit,
    },
};
use tokio::{net::TcpListener, time::Instant};

/// The port of Go's tutorials.
pub(crate) const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1234);

/// How much of a text that a peer chose the log has, in bytes.
const LONGEST_TEXT: usize = 256;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Args {
    a: i64,
    b: i64,
}

/// Serves on `listener`, alongside the calls of `stack`, with the limits that apply.
pub(crate) fn add(stack: &mut Stack, listener: TcpListener, settings: &Settings) -> anyhow::Result<()> {
    let mut registry = Registry::new();
    registry.register("MathService.Multiply", async |Args { a, b }: Args| arithmetic::multiply(a, b))?;
    let address = listener.local_addr()?;
    tracing::info!("net/rpc at {address}: gob over TCP, gob behind HTTP, JSON");
    if !address.ip().is_loopback() {
        tracing::warn!(
            "everyone who can reach {address} may call and read the traffic: net/rpc has neither TLS nor tokens"
        );
    }
    let metrics = Metrics::default();
    metrics.register(stack);
    let draining = stack.draining();
    let serving = serve(
        listener,
        registry.into(),
        limits(settings),
        move |peer, event| metrics.observe(peer, event),
        async move { draining.cancelled().await },
    );
    stack.alongside(async {
        // The log has the connections that were cut.
        serving.await;
    });
    Ok(())
}

fn limits(settings: &Settings) -> ServerLimits {
    let limits = &settings.limits;
    let defaults = net_rpc::Limits::default();
    let message = limits.unary_message as usize;
    // Half for requests and half for answers. Each connection has room for one message.
    let share = (limits.buffered / limits.connections / 2).max(message);
    let connection = net_rpc::Limits {
        gob: gob::Limits { message, ..defaults.gob },
        calls: limits.streams as usize,
        requests: defaults.requests.min(share),
        unsent: defaults.unsent.min(share),
        idle: defaults.idle,
    };
    ServerLimits { connection, connections: limits.connections, drain: settings.grace }
}

/// What the log and `/metrics` show of it.
struct Metrics {
    connections: Gauge,
    /// By transport, method and result. Every name that is no method counts as `unknown`: a
    /// peer can invent a million.
    handled: Family<[(&'static str, String); 3], Counter>,
    seconds: Histogram,
    lines: Arc<Lines>,
}

impl Default for Metrics {
    fn default() -> Self {
        // 0.1 ms to 1.6 s.
        let seconds = Histogram::new(exponential_buckets(0.0001, 4.0, 8));
        let lines = Lines::of("net/rpc");
        Self { connections: Gauge::default(), handled: Family::default(), seconds, lines }
    }
}

impl Metrics {
    fn register(&self, stack: &mut Stack) {
        let registry = stack.metrics().sub_registry_with_prefix("net_rpc");
        registry.register("connections", "Open connections of net/rpc", self.connections.clone());
        registry.register("handled", "Answered calls of net/rpc", self.handled.clone());
        let help = "Durations of net/rpc calls";
        registry.register_with_unit("handling", help, Unit::Seconds, self.seconds.clone());
    }

    fn observe(&self, peer: Option<SocketAddr>, event: Event<'_>) {
        let peer = peer.map(tracing::field::display);
        match event {
            Event::Opened => drop(self.connections.inc()),
            Event::Closed(ended) => {
                self.connections.dec();
                if let Err(error) = ended {
                    tracing::info!(peer, %error, "a net/rpc connection is closed");
                }
            }
            Event::NotAccepted(error) => tracing::warn!(%error, "a net/rpc connection is not accepted"),
            Event::Called(call) => {
                self.count(&call);
                if !self.lines.admit(Instant::now()) {
                    return;
                }
                let elapsed_ms = call.elapsed.as_micros() as f64 / 1e3;
                let Call { transport, seq, bytes_in, bytes_out, .. } = call;
                let (method, error) = (short(call.method), call.error.map(short));
                tracing::info!(peer, method, %transport, seq, error, bytes_in, bytes_out, elapsed_ms, "net/rpc call ended");
            }
        }
    }

    fn count(&self, call: &Call<'_>) {
        let method = if call.known { call.method } else { "unknown" };
        let result = if call.error.is_none() { "ok" } else { "error" };
        let transport = call.transport.to_string();
        let labels = [("transport", transport), ("method", method.to_owned()), ("result", result.to_owned())];
        self.handled.get_or_create(&labels).inc();
        self.seconds.observe(call.elapsed.as_secs_f64());
    }
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

//! What a client of net/rpc sends to the server, and what a server sends to the client, on each transport.

#![no_main]

use std::io::Cursor;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use net_rpc::{Client, ClientLimits, Limits, Registry, Transport, serve_connection};

#[derive(serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Args {
    a: i64,
    b: i64,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let mut registry = Registry::new();
    let multiply = async |args: Args| args.a.checked_mul(args.b).ok_or("overflow");
    registry.register("MathService.Multiply", multiply).unwrap();
    registry
});

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let io = tokio::io::join(bytes, tokio::io::sink());
        let never = std::future::pending();
        // Whatever comes of it.
        let _ = serve_connection(io, &REGISTRY, &Limits::default(), |_| (), never).await;
        for transport in [Transport::Tcp, Transport::Json] {
            let io = tokio::io::join(Cursor::new(bytes.to_vec()), tokio::io::sink());
            let client = Client::connect(io, transport, ClientLimits::default(), |_| ()).await.unwrap();
            let _ = client.call::<_, i64>("MathService.Multiply", &Args { a: 6, b: 7 }).await;
        }
    });
});

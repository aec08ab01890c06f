//! The service of Go's tutorial. `math` serves it; `math tcp|http|json ADDRESS A B` calls it.
#![allow(clippy::print_stdout, reason = "it is a program")]

use net_rpc::{Client, ClientLimits, Registry, ServerLimits, Transport, serve};
use tokio::net::{TcpListener, TcpStream};

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Args {
    a: i64,
    b: i64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [transport, address, a, b] = words.as_slice() else {
        let mut registry = Registry::new();
        registry.register("MathService.Multiply", async |args: Args| {
            args.a.checked_mul(args.b).ok_or("overflow")
        })?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        serve(listener, registry.into(), ServerLimits::default(), |_, _| (), std::future::pending()).await;
        return Ok(());
    };
    let transport = match transport.as_str() {
        "http" => Transport::Http,
        "json" => Transport::Json,
        _ => Transport::Tcp,
    };
    let stream = TcpStream::connect(address).await?;
    let client = Client::connect(stream, transport, ClientLimits::default(), |_| ()).await?;
    let args = Args { a: a.parse()?, b: b.parse()? };
    let product: i64 = client.call("MathService.Multiply", &args).await?;
    println!("{product}");
    Ok(())
}

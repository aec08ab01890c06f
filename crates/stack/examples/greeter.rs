//! A service of one's own on the stack: `cargo run -p stack --example greeter -- --help`.

use clap::Parser;
use shared_proto::tutorial::greeter::{HelloRequest, HelloResponse, greeter_server as greeter};
use stack::{Options, Stack, shutdown_signal};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, async_trait};

#[derive(Parser)]
struct Cli {
    #[arg(long, default_value = "127.0.0.1:50051")]
    listen: std::net::SocketAddr,
    #[command(flatten)]
    stack: Options,
}

struct Greeter;

#[async_trait]
impl greeter::Greeter for Greeter {
    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        Ok(Response::new(HelloResponse { name: format!("Hello, {}!", request.into_inner().name) }))
    }
}

async fn serve(on: TcpListener, options: Options, until: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut stack = Stack::open(options.settings()?, &[shared_proto::FILE_DESCRIPTOR_SET]).await?;
    stack.add_service(greeter::GreeterServer::new(Greeter));
    stack.serve(on, until).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Cli { listen, stack } = Cli::parse();
    serve(TcpListener::bind(listen).await?, stack, shutdown_signal()?).await
}

#[cfg(test)]
#[path = "greeter/tests.rs"]
mod tests;

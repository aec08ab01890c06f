//! A service with one RPC of each mode: `cargo run -p stack --example modes -- --help`.

use std::pin::Pin;

use clap::Parser;
use shared_proto::fourmodes::v1::{
    MeasureBidiStreamingRequest, MeasureBidiStreamingResponse, MeasureClientStreamingRequest,
    MeasureClientStreamingResponse, MeasureServerStreamingRequest, MeasureServerStreamingResponse,
    MeasureUnaryRequest, MeasureUnaryResponse, measure_service_server as measure,
};
use stack::{Options, Stack, shutdown_signal};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, async_trait};

#[derive(Parser)]
struct Cli {
    #[arg(long, default_value = "127.0.0.1:50051")]
    listen: std::net::SocketAddr,
    #[command(flatten)]
    stack: Options,
}

struct Modes;

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl measure::MeasureService for Modes {
    /// The stack has a deadline for it, whatever the client says.
    async fn measure_unary(
        &self,
        request: Request<MeasureUnaryRequest>,
    ) -> Result<Response<MeasureUnaryResponse>, Status> {
        Ok(Response::new(MeasureUnaryResponse { payload: request.into_inner().payload }))
    }

    type MeasureServerStreamingStream = Responses<MeasureServerStreamingResponse>;

    /// The stack ends it when the server shuts down, when it is old, and when its client
    /// reads nothing.
    async fn measure_server_streaming(
        &self,
        request: Request<MeasureServerStreamingRequest>,
    ) -> Result<Response<Self::MeasureServerStreamingStream>, Status> {
        let count = request.into_inner().count;
        let responses = (0..count).map(|_| Ok(MeasureServerStreamingResponse::default()));
        Ok(Response::new(Box::pin(tokio_stream::iter(responses))))
    }

    /// A client that goes away ends the requests as well. Here nothing is kept, so it does
    /// no harm; where something is, the client has to say that it has sent all.
    async fn measure_client_streaming(
        &self,
        request: Request<Streaming<MeasureClientStreamingRequest>>,
    ) -> Result<Response<MeasureClientStreamingResponse>, Status> {
        let mut requests = request.into_inner();
        let mut sum = MeasureClientStreamingResponse::default();
        while let Some(request) = requests.message().await? {
            sum.messages += 1;
            sum.bytes += request.payload.len() as u64;
        }
        Ok(Response::new(sum))
    }

    type MeasureBidiStreamingStream = Responses<MeasureBidiStreamingResponse>;

    /// Answers at once, so that the head is there before the first request: a client may
    /// wait for it.
    async fn measure_bidi_streaming(
        &self,
        request: Request<Streaming<MeasureBidiStreamingRequest>>,
    ) -> Result<Response<Self::MeasureBidiStreamingStream>, Status> {
        let responses = request.into_inner().map(|request| {
            let MeasureBidiStreamingRequest { payload, .. } = request?;
            Ok(MeasureBidiStreamingResponse { payload })
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

async fn serve(on: TcpListener, options: Options, until: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut stack = Stack::open(options.settings()?, &[shared_proto::FILE_DESCRIPTOR_SET]).await?;
    stack.add_service(measure::MeasureServiceServer::new(Modes));
    stack.serve(on, until).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Cli { listen, stack } = Cli::parse();
    serve(TcpListener::bind(listen).await?, stack, shutdown_signal()?).await
}

#[cfg(test)]
#[path = "modes/tests.rs"]
mod tests;

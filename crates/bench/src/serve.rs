//! The others: what the server is measured against.

use std::{io::Write as _, pin::Pin};

use anyhow::Context as _;
use shared_proto::testing::{
    Empty, Payload, SimpleRequest, SimpleResponse, StreamingInputCallRequest, StreamingInputCallResponse,
    StreamingOutputCallRequest, StreamingOutputCallResponse,
    test_service_server::{TestService, TestServiceServer},
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Baseline {
    /// tonic as it comes: no layers, no limits, default settings
    BareTonic,
}

pub(crate) fn serve(baseline: Baseline) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on 127.0.0.1")?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
        stdout.flush()?;
        match baseline {
            Baseline::BareTonic => bare_tonic(listener).await,
        }
    })
}

async fn bare_tonic(listener: TcpListener) -> anyhow::Result<()> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(TestServiceServer::new(Bare));
    server.serve_with_incoming(incoming).await.context("the listener failed")
}

/// What the measured calls need, as one would write it first.
struct Bare;

type Responses = Pin<Box<dyn Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send>>;

#[tonic::async_trait]
impl TestService for Bare {
    type StreamingOutputCallStream = Responses;
    type FullDuplexCallStream = Responses;
    type HalfDuplexCallStream = Responses;

    async fn empty_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }

    async fn unary_call(&self, request: Request<SimpleRequest>) -> Result<Response<SimpleResponse>, Status> {
        let payload = payload(request.into_inner().response_size);
        Ok(Response::new(SimpleResponse { payload, ..SimpleResponse::default() }))
    }

    async fn streaming_output_call(
        &self,
        request: Request<StreamingOutputCallRequest>,
    ) -> Result<Response<Responses>, Status> {
        let parameters = request.into_inner().response_parameters;
        let responses = tokio_stream::iter(parameters)
            .map(|parameters| Ok(StreamingOutputCallResponse { payload: payload(parameters.size) }));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn streaming_input_call(
        &self,
        request: Request<Streaming<StreamingInputCallRequest>>,
    ) -> Result<Response<StreamingInputCallResponse>, Status> {
        let mut requests = request.into_inner();
        let mut size = 0;
        while let Some(request) = requests.message().await? {
            size += request.payload.map_or(0, |payload| payload.body.len());
        }
        let aggregated_payload_size = i32::try_from(size).unwrap_or(i32::MAX);
        Ok(Response::new(StreamingInputCallResponse { aggregated_payload_size }))
    }

    async fn full_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let mut requests = request.into_inner();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            while let Some(request) = requests.message().await? {
                for parameters in request.response_parameters {
                    yield StreamingOutputCallResponse { payload: payload(parameters.size) };
                }
            }
        })))
    }

    async fn half_duplex_call(
        &self,
        _: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Responses>, Status> {
        Err(not_measured())
    }

    async fn cacheable_unary_call(
        &self,
        _: Request<SimpleRequest>,
    ) -> Result<Response<SimpleResponse>, Status> {
        Err(not_measured())
    }

    async fn unimplemented_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Err(not_measured())
    }
}

fn not_measured() -> Status {
    Status::unimplemented("nothing that is measured needs it")
}

fn payload(size: i32) -> Option<Payload> {
    let body = vec![0; usize::try_from(size).unwrap_or(0)].into();
    Some(Payload { body, ..Payload::default() })
}

//! gRPC by tonic, without anything around the handlers.

use std::pin::Pin;

use anyhow::Context as _;
use shared_proto::{
    limits,
    testing::{
        Empty, Payload, SimpleRequest, SimpleResponse, StreamingInputCallRequest, StreamingInputCallResponse,
        StreamingOutputCallRequest, StreamingOutputCallResponse,
        test_service_server::{TestService, TestServiceServer},
    },
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

/// As it comes.
pub(super) async fn bare(listener: TcpListener) -> anyhow::Result<()> {
    serve(Server::builder(), listener).await
}

/// With the server's HTTP/2 settings.
pub(super) async fn tuned(listener: TcpListener) -> anyhow::Result<()> {
    let settings = Server::builder()
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::FRAME_SIZE);
    serve(settings, listener).await
}

async fn serve(mut server: Server, listener: TcpListener) -> anyhow::Result<()> {
    // As when tonic listens by itself.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = server.add_service(TestServiceServer::new(Bare));
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

//! gRPC by tonic, without anything around the handlers.

use std::pin::Pin;

use anyhow::Context as _;
use futures_util::stream;
use grpc_wire::limits;
use shared_proto::fourmodes::v1::{
    MeasureBidiStreamingRequest, MeasureBidiStreamingResponse, MeasureClientStreamingRequest,
    MeasureClientStreamingResponse, MeasureServerStreamingRequest, MeasureServerStreamingResponse,
    MeasureUnaryRequest, MeasureUnaryResponse,
    measure_service_server::{MeasureService, MeasureServiceServer},
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Request, Response, Status, Streaming,
    codegen::Bytes,
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
        .max_frame_size(limits::FRAME_SIZE)
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT));
    serve(settings, listener).await
}

async fn serve(mut server: Server, listener: TcpListener) -> anyhow::Result<()> {
    // As when tonic listens by itself.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = server.add_service(MeasureServiceServer::new(Bare));
    server.serve_with_incoming(incoming).await.context("the listener failed")
}

/// As one would write it first.
struct Bare;

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MeasureService for Bare {
    async fn measure_unary(
        &self,
        request: Request<MeasureUnaryRequest>,
    ) -> Result<Response<MeasureUnaryResponse>, Status> {
        let payload = payload(request.into_inner().response_bytes);
        Ok(Response::new(MeasureUnaryResponse { payload }))
    }

    type MeasureServerStreamingStream = Responses<MeasureServerStreamingResponse>;

    async fn measure_server_streaming(
        &self,
        request: Request<MeasureServerStreamingRequest>,
    ) -> Result<Response<Self::MeasureServerStreamingStream>, Status> {
        let MeasureServerStreamingRequest { count, response_bytes } = request.into_inner();
        let payload = payload(response_bytes);
        let responses =
            (0..count).map(move |_| Ok(MeasureServerStreamingResponse { payload: payload.clone() }));
        Ok(Response::new(Box::pin(stream::iter(responses))))
    }

    async fn measure_client_streaming(
        &self,
        request: Request<Streaming<MeasureClientStreamingRequest>>,
    ) -> Result<Response<MeasureClientStreamingResponse>, Status> {
        let mut requests = request.into_inner();
        let mut response = MeasureClientStreamingResponse::default();
        while let Some(request) = requests.message().await? {
            response.messages += 1;
            response.bytes += request.payload.len() as u64;
            response.values += request.values.len() as u64;
        }
        Ok(Response::new(response))
    }

    type MeasureBidiStreamingStream = Responses<MeasureBidiStreamingResponse>;

    async fn measure_bidi_streaming(
        &self,
        request: Request<Streaming<MeasureBidiStreamingRequest>>,
    ) -> Result<Response<Self::MeasureBidiStreamingStream>, Status> {
        let responses = request
            .into_inner()
            .map(|request| Ok(MeasureBidiStreamingResponse { payload: payload(request?.response_bytes) }));
        Ok(Response::new(Box::pin(responses)))
    }
}

fn payload(bytes: u32) -> Bytes {
    vec![0; bytes as usize].into()
}

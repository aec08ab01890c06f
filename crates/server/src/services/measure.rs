//! As little work as there can be, so that what is measured is the mode.

use std::pin::Pin;

use futures_util::stream;
use shared_proto::fourmodes::v1::{
    MeasureBidiStreamingRequest, MeasureBidiStreamingResponse, MeasureClientStreamingRequest,
    MeasureClientStreamingResponse, MeasureServerStreamingRequest, MeasureServerStreamingResponse,
    MeasureUnaryRequest, MeasureUnaryResponse,
    measure_service_server::{MeasureService, MeasureServiceServer},
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming, codegen::Bytes};

use crate::refused::bad_request;

/// The largest payload of a response, in bytes.
const LARGEST: u32 = 16 << 20;

/// What small payloads are made of, so that they cost no allocation.
static ZEROS: [u8; 4 << 10] = [0; 4 << 10];

/// The service, to be added to the routes. A layer has the limit for messages.
pub(crate) fn service() -> MeasureServiceServer<Measure> {
    MeasureServiceServer::new(Measure).max_decoding_message_size(usize::MAX)
}

#[derive(Debug)]
pub(crate) struct Measure;

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MeasureService for Measure {
    async fn measure_unary(
        &self,
        request: Request<MeasureUnaryRequest>,
    ) -> Result<Response<MeasureUnaryResponse>, Status> {
        let payload = payload(request.into_inner().response_bytes)?;
        Ok(Response::new(MeasureUnaryResponse { payload }))
    }

    type MeasureServerStreamingStream = Responses<MeasureServerStreamingResponse>;

    async fn measure_server_streaming(
        &self,
        request: Request<MeasureServerStreamingRequest>,
    ) -> Result<Response<Self::MeasureServerStreamingStream>, Status> {
        let MeasureServerStreamingRequest { count, response_bytes } = request.into_inner();
        let payload = payload(response_bytes)?;
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
        let responses = request.into_inner().map(|request| {
            let payload = payload(request?.response_bytes)?;
            Ok(MeasureBidiStreamingResponse { payload })
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

fn payload(bytes: u32) -> Result<Bytes, Status> {
    match bytes {
        ..=LARGEST => {
            let size = bytes as usize;
            Ok(ZEROS.get(..size).map_or_else(|| vec![0; size].into(), Bytes::from_static))
        }
        _ => Err(bad_request("response_bytes", format!("response_bytes {bytes} is more than 16 MiB"))),
    }
}

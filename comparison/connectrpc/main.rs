//! MeasureService by connectrpc, with its defaults and our allocator. The first line on stdout is
//! the address.

use std::{error::Error, io::Write as _, sync::Arc};

use connectrpc::{
    ConnectError, Encodable, InboundStream, RequestContext, Response, Router, Server, ServiceRequest,
    ServiceResult, ServiceStream,
};
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpListener;

mod generated {
    connectrpc::include_generated!();
}
use generated::fourmodes::v1::{
    MeasureBidiStreamingRequest, MeasureBidiStreamingResponse, MeasureClientStreamingRequest,
    MeasureClientStreamingResponse, MeasureServerStreamingRequest, MeasureServerStreamingResponse,
    MeasureService, MeasureUnaryRequest, MeasureUnaryResponse,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
        stdout.flush()?;
        Server::from_listener(listener).serve(Router::new().add_service(Arc::new(Measure))).await
    })
}

struct Measure;

impl MeasureService for Measure {
    async fn measure_unary<'a>(
        &'a self,
        _: RequestContext,
        request: ServiceRequest<'_, MeasureUnaryRequest>,
    ) -> ServiceResult<impl Encodable<MeasureUnaryResponse> + Send + use<'a>> {
        let payload = payload(request.response_bytes);
        Response::ok(MeasureUnaryResponse { payload, ..Default::default() })
    }

    async fn measure_server_streaming(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, MeasureServerStreamingRequest>,
    ) -> ServiceResult<ServiceStream<impl Encodable<MeasureServerStreamingResponse> + Send + use<>>> {
        let (count, payload) = (request.count, payload(request.response_bytes));
        let response =
            move |_| Ok(MeasureServerStreamingResponse { payload: payload.clone(), ..Default::default() });
        Response::stream_ok(stream::iter((0..count).map(response)))
    }

    async fn measure_client_streaming<'a>(
        &'a self,
        _: RequestContext,
        mut requests: InboundStream<MeasureClientStreamingRequest>,
    ) -> ServiceResult<impl Encodable<MeasureClientStreamingResponse> + Send + use<'a>> {
        let mut response = MeasureClientStreamingResponse::default();
        while let Some(request) = requests.next().await {
            let request = request?;
            response.messages += 1;
            response.bytes += request.payload().len() as u64;
            response.values += request.values().len() as u64;
        }
        Response::ok(response)
    }

    async fn measure_bidi_streaming(
        &self,
        _: RequestContext,
        requests: InboundStream<MeasureBidiStreamingRequest>,
    ) -> ServiceResult<ServiceStream<impl Encodable<MeasureBidiStreamingResponse> + Send + use<>>> {
        Response::stream_ok(requests.map(|request| {
            let payload = payload(request?.response_bytes());
            Ok::<_, ConnectError>(MeasureBidiStreamingResponse { payload, ..Default::default() })
        }))
    }
}

fn payload(bytes: u32) -> Vec<u8> {
    vec![0; bytes as usize]
}

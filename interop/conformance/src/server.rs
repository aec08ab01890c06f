//! The service of the tests, on the stack.

use std::{fs, path::Path, pin::Pin, time::Duration};

use anyhow::Context as _;
use async_stream::try_stream;
use grpc_wire::timeout::{self, GRPC_TIMEOUT};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt as _;
use prost::Message;
use prost_types::Any;
use stack::{Settings, Stack, TlsFiles};
use tokio::{
    io::{stdin, stdout},
    net::TcpListener,
    time::sleep,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Code, Request, Response, Status, Streaming, body::Body, codec::CompressionEncoding,
    metadata::MetadataMap, service::LayerExt as _,
};
use tonic_types::StatusExt as _;
use tower::util::MapResponseLayer;

use crate::{
    headers,
    proto::{
        BidiStreamRequest, BidiStreamResponse, ClientStreamRequest, ClientStreamResponse, ConformancePayload,
        Error, ServerCompatRequest, ServerCompatResponse, ServerStreamRequest, ServerStreamResponse,
        StreamResponseDefinition, TlsCreds, UnaryRequest, UnaryResponse, UnaryResponseDefinition,
        conformance_payload::RequestInfo,
        conformance_service_server::{ConformanceService, ConformanceServiceServer},
        unary_response_definition::Response as Answer,
    },
    read, write,
};

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
const DETAILS: &str = "grpc-status-details-bin";

/// Starts the server that the runner asks for.
pub(crate) async fn run(without_error_info: bool) -> anyhow::Result<()> {
    let request = read::<ServerCompatRequest>(&mut stdin()).await?.context("the runner says nothing")?;
    let files = tempfile::tempdir()?;
    let creds = request.server_creds.filter(|_| request.use_tls);
    let tls = creds.as_ref().map(|creds| tls(files.path(), creds, &request.client_tls_cert)).transpose()?;
    let mut settings = Settings { tls, ..Settings::default() };
    if request.message_receive_limit > 0 {
        settings.limits.message = request.message_receive_limit;
        settings.limits.unary_message = request.message_receive_limit;
    }
    let mut stack = Stack::open(settings, &[DESCRIPTORS]).await?;
    let longest = match request.message_receive_limit {
        0 => usize::MAX,
        limit => limit as usize,
    };
    let service = ConformanceServiceServer::new(Service).max_decoding_message_size(longest);
    let service = [CompressionEncoding::Gzip, CompressionEncoding::Zstd]
        .into_iter()
        .fold(service, |service, encoding| service.accept_compressed(encoding).send_compressed(encoding));
    let finish = move |response| finish(response, without_error_info);
    stack.add_service(MapResponseLayer::new(finish).named_layer(service));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, pem_cert) = (listener.local_addr()?, creds.map(|creds| creds.cert).unwrap_or_default());
    let response =
        ServerCompatResponse { host: address.ip().to_string(), port: address.port().into(), pem_cert };
    write(&mut stdout(), &response).await?;
    stack.serve(listener, stack::shutdown_signal()?).await
}

fn tls(files: &Path, creds: &TlsCreds, client_ca: &[u8]) -> anyhow::Result<TlsFiles> {
    let file = |name: &str, pem: &[u8]| fs::write(files.join(name), pem).map(|()| files.join(name));
    Ok(TlsFiles {
        certificate: file("certificate", &creds.cert)?,
        key: file("key", &creds.key)?,
        client_ca: (!client_ca.is_empty()).then(|| file("client-ca", client_ca)).transpose()?,
    })
}

/// Adds the trailers that a handler has left in the extensions: tonic knows trailers
/// of errors only.
fn finish(mut response: http::Response<Body>, without_error_info: bool) -> http::Response<Body> {
    let trailers: HeaderMap = response.extensions_mut().remove().unwrap_or_default();
    let strip = move |headers: &mut HeaderMap| {
        let status = Status::from_header_map(headers).filter(|_| without_error_info);
        let info = status.and_then(|status| status.get_details_error_info());
        if info.is_some_and(|info| info.domain == grpc_wire::ERROR_DOMAIN) {
            headers.remove(DETAILS);
        }
    };
    strip(response.headers_mut());
    response.map(|body| {
        Body::new(body.map_frame(move |frame| match frame.into_trailers() {
            Ok(mut all) => {
                strip(&mut all);
                all.extend(trailers.clone());
                Frame::trailers(all)
            }
            Err(frame) => frame,
        }))
    })
}

struct Service;

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ConformanceService for Service {
    async fn unary(&self, request: Request<UnaryRequest>) -> Result<Response<UnaryResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let seen = seen(&metadata, vec![any("UnaryRequest", &request)]);
        let answered = answer(request.response_definition, seen).await?;
        Ok(answered.map(|payload| UnaryResponse { payload: Some(payload) }))
    }

    async fn client_stream(
        &self,
        request: Request<Streaming<ClientStreamRequest>>,
    ) -> Result<Response<ClientStreamResponse>, Status> {
        let (metadata, _, mut messages) = request.into_parts();
        let (mut definition, mut requests) = (None, Vec::new());
        while let Some(request) = messages.message().await? {
            requests.push(any("ClientStreamRequest", &request));
            definition = definition.or(Some(request.response_definition));
        }
        let answered = answer(definition.flatten(), seen(&metadata, requests)).await?;
        Ok(answered.map(|payload| ClientStreamResponse { payload: Some(payload) }))
    }

    type ServerStreamStream = Responses<ServerStreamResponse>;

    async fn server_stream(
        &self,
        request: Request<ServerStreamRequest>,
    ) -> Result<Response<Self::ServerStreamStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        let seen = seen(&metadata, vec![any("ServerStreamRequest", &request)]);
        let definition = request.response_definition.unwrap_or_default();
        answers(definition, seen, false, tokio_stream::empty(), |payload| ServerStreamResponse {
            payload: Some(payload),
        })
    }

    type BidiStreamStream = Responses<BidiStreamResponse>;

    async fn bidi_stream(
        &self,
        request: Request<Streaming<BidiStreamRequest>>,
    ) -> Result<Response<Self::BidiStreamStream>, Status> {
        let (metadata, _, mut messages) = request.into_parts();
        let first = messages.message().await?;
        let requests = first.iter().map(|first| any("BidiStreamRequest", first)).collect();
        let first = first.unwrap_or_default();
        let rest = messages.map(|request| Ok(any("BidiStreamRequest", &request?)));
        let definition = first.response_definition.unwrap_or_default();
        answers(definition, seen(&metadata, requests), first.full_duplex, rest, |payload| {
            BidiStreamResponse { payload: Some(payload) }
        })
    }
}

/// The one answer of a call, when its requests are there.
async fn answer(
    definition: Option<UnaryResponseDefinition>,
    seen: RequestInfo,
) -> Result<Response<ConformancePayload>, Status> {
    let definition = definition.unwrap_or_default();
    let mut head = headers::on_wire(&definition.response_headers)?;
    let trailers = headers::on_wire(&definition.response_trailers)?;
    sleep(Duration::from_millis(definition.response_delay_ms.into())).await;
    let data = match definition.response {
        Some(Answer::Error(error)) => {
            head.extend(trailers);
            return Err(status(error, Some(seen), head));
        }
        Some(Answer::ResponseData(data)) => data,
        None => Vec::new(),
    };
    let mut response = Response::new(ConformancePayload { data, request_info: Some(seen) });
    *response.metadata_mut() = MetadataMap::from_headers(head);
    response.extensions_mut().insert(trailers);
    Ok(response)
}

/// The answers of a call: to each request if it is `full_duplex`, otherwise after the
/// last one.
fn answers<T: Send + 'static>(
    definition: StreamResponseDefinition,
    seen: RequestInfo,
    full_duplex: bool,
    rest: impl Stream<Item = Result<Any, Status>> + Send + Unpin + 'static,
    response: fn(ConformancePayload) -> T,
) -> Result<Response<Responses<T>>, Status> {
    let head = headers::on_wire(&definition.response_headers)?;
    let trailers = headers::on_wire(&definition.response_trailers)?;
    let delay = Duration::from_millis(definition.response_delay_ms.into());
    let responses = try_stream! {
        let (mut rest, mut sent, mut seen) = (rest, 0, Some(seen));
        let mut data = definition.response_data.into_iter();
        loop {
            if full_duplex {
                let Some(data) = data.next() else { break };
                sleep(delay).await;
                yield response(ConformancePayload { data, request_info: seen.take() });
                sent += 1;
            }
            let Some(request) = rest.next().await else { break };
            seen.get_or_insert_default().requests.push(request?);
        }
        for data in data {
            sleep(delay).await;
            yield response(ConformancePayload { data, request_info: seen.take() });
            sent += 1;
        }
        if let Some(error) = definition.error {
            Err(status(error, seen.filter(|_| sent == 0), HeaderMap::new()))?;
        }
    };
    let mut response = Response::new(Box::pin(responses) as Responses<T>);
    *response.metadata_mut() = MetadataMap::from_headers(head);
    response.extensions_mut().insert(trailers);
    Ok(response)
}

fn seen(metadata: &MetadataMap, requests: Vec<Any>) -> RequestInfo {
    let timeout = metadata.as_ref().get(&GRPC_TIMEOUT).and_then(timeout::parse);
    RequestInfo {
        request_headers: headers::of(metadata),
        timeout_ms: timeout.and_then(|timeout| timeout.as_millis().try_into().ok()),
        requests,
    }
}

fn status(Error { code, message, details }: Error, seen: Option<RequestInfo>, metadata: HeaderMap) -> Status {
    let seen = seen.map(|seen| any("ConformancePayload.RequestInfo", &seen));
    let message = message.unwrap_or_default();
    let details = details.into_iter().chain(seen).collect();
    let all = tonic_types::Status { code, message: message.clone(), details }.encode_to_vec();
    let metadata = MetadataMap::from_headers(metadata);
    Status::with_details_and_metadata(Code::from_i32(code), message, all.into(), metadata)
}

fn any(name: &str, message: &impl Message) -> Any {
    let type_url = format!("type.googleapis.com/connectrpc.conformance.v1.{name}");
    Any { type_url, value: message.encode_to_vec() }
}

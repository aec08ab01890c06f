//! What else people expect of a gRPC server, and look for through a path.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message;
use shared_proto::{fourmodes::v1 as pb, testing};
use timeline::words::counted;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use tonic_reflection::pb::{v1, v1alpha};
use transport::{Connect, ConnectError, TlsError};

use crate::{
    Group,
    check::Check,
    outcome::{Checked, Outcome},
    path::{Dialect, EMPTY_CALL, Path, SOON, UNARY},
    remedies, script,
    wire_error::WireError,
};

pub(crate) const CHECKS: [Check; 5] = [
    Check::new(Group::Extras, "health", |path| Box::pin(health(path))).anywhere(),
    Check::new(Group::Extras, "reflection-v1", |path| Box::pin(reflection_v1(path))).anywhere(),
    Check::new(Group::Extras, "reflection-v1alpha", |path| Box::pin(reflection_v1alpha(path))).anywhere(),
    Check::new(Group::Extras, "grpc-web", |path| Box::pin(grpc_web(path))).anywhere(),
    Check::new(Group::Extras, "http1", |path| Box::pin(http1(path))).anywhere(),
];

async fn health(path: &Path) -> Checked {
    let request = HealthCheckRequest { service: String::new() };
    let wire = path.open().await?;
    let answer =
        wire.unary::<HealthCheckResponse>("/grpc.health.v1.Health/Check", HeaderMap::new(), &request);
    match answer.await {
        Ok(answer) if answer.message.status() == ServingStatus::Serving => Ok(Outcome::pass("SERVING")),
        Ok(answer) => Ok(Outcome::fail(
            answer.message.status().as_str_name(),
            "the server reports NOT_SERVING: balancers skip it",
            "read its log: it is starting, stopping, or missing something that it needs",
        )),
        Err(lost) => Ok(not_there("grpc.health.v1", "balancers cannot check the server's health", &lost)),
    }
}

fn not_there(what: &str, why: &str, lost: &WireError) -> Outcome {
    Outcome::warn(lost.to_string(), format!("{what} is missing: {why}"), remedies::SERVICE)
}

const V1: &str = "grpc.reflection.v1";
const V1ALPHA: &str = "grpc.reflection.v1alpha";

async fn reflection_v1(path: &Path) -> Checked {
    Ok(reflection(path, (V1, services_by_v1(path)), (V1ALPHA, services_by_v1alpha(path))).await)
}

async fn reflection_v1alpha(path: &Path) -> Checked {
    Ok(reflection(path, (V1ALPHA, services_by_v1alpha(path)), (V1, services_by_v1(path))).await)
}

/// One version is enough, because tools ask for both. A Four Modes server has both: there the
/// path keeps one back.
async fn reflection(
    path: &Path,
    (version, services): (&str, impl Future<Output = Result<usize, WireError>>),
    (other, services_by_other): (&str, impl Future<Output = Result<usize, WireError>>),
) -> Outcome {
    match services.await {
        Ok(count) => Outcome::pass(counted(count as u64, "service")),
        Err(_) if path.dialect() != Some(Dialect::Probe) && services_by_other.await.is_ok() => {
            Outcome::pass(format!("not there; tools use {other}"))
        }
        Err(lost) => not_there(version, "tools such as grpcurl need the protos", &lost),
    }
}

async fn services_by_v1(path: &Path) -> Result<usize, WireError> {
    use v1::{
        ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
    };
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let asked = ask("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", path, &request).await;
    match asked.map(|answer: ServerReflectionResponse| answer.message_response)? {
        Some(MessageResponse::ListServicesResponse(list)) if !list.service.is_empty() => {
            Ok(list.service.len())
        }
        _ => Err(no_services()),
    }
}

async fn services_by_v1alpha(path: &Path) -> Result<usize, WireError> {
    use v1alpha::{
        ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
    };
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let asked = ask("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", path, &request).await;
    match asked.map(|answer: ServerReflectionResponse| answer.message_response)? {
        Some(MessageResponse::ListServicesResponse(list)) if !list.service.is_empty() => {
            Ok(list.service.len())
        }
        _ => Err(no_services()),
    }
}

fn no_services() -> WireError {
    WireError::Malformed("no services".to_owned())
}

/// One question on a stream of them.
async fn ask<Q: Message, R: Message + Default>(
    method: &str,
    path: &Path,
    request: &Q,
) -> Result<R, WireError> {
    let mut call = path.alone(method, HeaderMap::new()).await?;
    call.ask(request).await;
    match call.next().await? {
        Some(answer) => Ok(answer),
        None => {
            let (status, _) = call.end().await?;
            Err(WireError::Status(Box::new(status)))
        }
    }
}

/// As a browser calls: over HTTP/1.1, with the trailers in the body.
async fn grpc_web(path: &Path) -> Checked {
    let (method, message) = match path.dialect() {
        Some(Dialect::Probe) => {
            let script = Some(script::steps([script::payload(100)]));
            (UNARY, pb::UnaryRequest { script, ..pb::UnaryRequest::default() }.encode_to_vec())
        }
        Some(Dialect::Standard) => (EMPTY_CALL, testing::Empty {}.encode_to_vec()),
        // That there is no such method is an answer as well.
        Some(Dialect::Other) => (UNARY, Vec::new()),
        None => return Ok(path.without_probe()),
    };
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(message.len() as u32);
    body.put_slice(&message);
    let request = Request::post(method)
        .header(header::CONTENT_TYPE, "application/grpc-web+proto")
        .header(header::ACCEPT, "application/grpc-web+proto")
        .header("x-grpc-web", "1");
    let warns = |figure: String| {
        Outcome::warn(figure, "browsers cannot call: no gRPC-Web over HTTP/1.1", remedies::WEB)
    };
    let answer = match by_http1(path, request, body.freeze()).await {
        Ok(answer) => answer,
        Err(what) => return Ok(warns(what)),
    };
    let content_type = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if answer.status() != StatusCode::OK
        || !content_type.is_some_and(|it| it.starts_with("application/grpc-web"))
    {
        return Ok(warns(format!(
            "HTTP {} with {}",
            answer.status(),
            content_type.unwrap_or("no content-type")
        )));
    }
    const UNIMPLEMENTED: i32 = 12;
    let in_head = answer.headers().get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
    match web_status(answer.body().clone()).or(in_head) {
        Some(0) => Ok(Outcome::pass("answered, with its trailers")),
        Some(UNIMPLEMENTED) if path.dialect() == Some(Dialect::Other) => {
            Ok(Outcome::pass("answered, that there is no such method"))
        }
        Some(code) => Ok(warns(format!("grpc-status {code}"))),
        None => Ok(Outcome::fail(
            "an answer without trailers",
            "a hop on the path cuts the trailers at the end of a gRPC-Web body",
            remedies::WEB,
        )),
    }
}

/// `grpc-status` in the last frame, which has the trailers as text.
pub(crate) fn web_status(mut body: Bytes) -> Option<i32> {
    while body.len() >= 5 {
        let flag = body.get_u8();
        let length = body.get_u32() as usize;
        if length > body.len() {
            return None;
        }
        let frame = body.split_to(length);
        if flag & 0x80 != 0 {
            let text = String::from_utf8_lossy(&frame).to_lowercase();
            let status = text
                .lines()
                .find_map(|line| line.strip_prefix("grpc-status:").map(str::trim).map(str::parse));
            return status.and_then(Result::ok);
        }
    }
    None
}

/// Health checks of older balancers, and people with curl.
async fn http1(path: &Path) -> Checked {
    match by_http1(path, Request::get("/"), Bytes::new()).await {
        Ok(answer) => Ok(Outcome::pass(format!("HTTP {}", answer.status()))),
        Err(what) => Ok(Outcome::warn(what, "HTTP/1.1 gets no answer", remedies::HTTP1)),
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// What came back, or in words why nothing did.
pub(crate) async fn by_http1(
    path: &Path,
    request: http::request::Builder,
    body: Bytes,
) -> Result<http::Response<Bytes>, String> {
    let exchanged = async {
        let socket = path.dial().await.map_err(|lost| lost.to_string())?;
        let io: Box<dyn Io> = match path.tls().map_err(|lost| lost.to_string())? {
            Some(tls) => match tls.offering(&[b"http/1.1"]).shake(socket).await {
                Ok(shaken) => Box::new(shaken.stream),
                Err(ConnectError { reason: Connect::Tls(TlsError::NoHttp2), .. }) => {
                    return Err("no HTTP/1.1 by ALPN".to_owned());
                }
                Err(error) => return Err(error.to_string()),
            },
            None => Box::new(socket),
        };
        let (mut send, connection) =
            http1::handshake(TokioIo::new(io)).await.map_err(|error| error.to_string())?;
        let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        let mut request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let host = path.server.authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
        request.headers_mut().entry(header::HOST).or_insert(host);
        path.connector.metadata.identify(&mut request);
        let (head, body) = match send.send_request(request).await {
            Ok(answer) => answer.into_parts(),
            // The connection knows what came instead.
            Err(error) => match driver.await {
                Ok(Err(instead)) => return Err(instead.to_string()),
                _ => return Err(error.to_string()),
            },
        };
        path.products.see(head.status, &head.headers);
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        drop(driver);
        Ok(http::Response::from_parts(head, body))
    };
    timeout(SOON, exchanged).await.unwrap_or_else(|_| Err(WireError::Silent(SOON).to_string()))
}

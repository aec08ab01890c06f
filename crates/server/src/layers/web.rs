//! gRPC-Web: gRPC for browsers, which have no trailers and often no HTTP/2.
//!
//! Outermost, so that everything further in sees gRPC. A page calls only the
//! server that it is from, unless the server was told of others. Over HTTP/1.1
//! there is gRPC-Web, a call a connection, and whatever else comes by it is told
//! what this server speaks.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{ACCESS_CONTROL_REQUEST_METHOD, CONNECTION, CONTENT_TYPE},
};
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::ending::{Request, Response, ResponseFuture};
use crate::error::http2_needed;

/// What a script in a page may read of a response. The star is for the metadata
/// of services; browsers that do not know it have the names.
const EXPOSED: [HeaderName; 7] = [
    HeaderName::from_static("*"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-retry-pushback-ms"),
    HeaderName::from_static(shared_proto::RESOURCE_NAME_HEADER),
];

/// How long a browser may remember that it may call.
const REMEMBERED: Duration = Duration::from_secs(3600);

const SPEAKS: &str = "This is a gRPC server. It speaks gRPC over HTTP/2, and gRPC-Web: POST with the \
    content-type application/grpc-web or application/grpc-web-text.\n";
const OWN_PAGES: &str = "This server takes calls from pages of its own origin only; \
    `server --grpc-web-origin ORIGIN` lets in others.\n";

#[derive(Clone)]
pub(crate) struct Web {
    /// Unset, no page of another origin may call.
    cors: Option<Arc<CorsLayer>>,
}

impl Web {
    pub(crate) fn new(origins: &[HeaderValue]) -> Self {
        let allowed = match origins {
            [] => return Self { cors: None },
            origins if origins.iter().any(|origin| origin == "*") => AllowOrigin::any(),
            origins => AllowOrigin::list(origins.iter().cloned()),
        };
        let cors = CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(EXPOSED)
            .max_age(REMEMBERED);
        Self { cors: Some(Arc::new(cors)) }
    }
}

#[derive(Clone)]
pub(crate) struct WebService<S> {
    layer: Web,
    inner: S,
}

impl<S> Layer<S> for Web {
    type Service = WebService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WebService { layer: self.clone(), inner }
    }
}

impl<S> Service<Request> for WebService<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + Unpin>
        + Clone
        + Send
        + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Translated<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let is_http2 = request.version() == Version::HTTP_2;
        let response = match Kind::of(&request) {
            Kind::Web => self.web(request),
            Kind::Preflight if self.layer.cors.is_some() => self.web(request),
            Kind::Preflight => answer(text(StatusCode::FORBIDDEN, OWN_PAGES)),
            Kind::Other | Kind::Grpc if is_http2 => return Translated::As(self.inner.call(request)),
            Kind::Grpc => answer(http2_needed().into_http()),
            Kind::Other => answer(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, SPEAKS)),
        };
        if is_http2 {
            return Translated::To(response);
        }
        Translated::To(Box::pin(async {
            let mut response = response.await?;
            // What a further request might cost has no limit here.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Ok(response)
        }))
    }
}

/// The response as it came, or to what it was translated.
pub(crate) enum Translated<F> {
    As(F),
    To(ResponseFuture),
}

impl<F: Future<Output = Result<Response, Infallible>> + Unpin> Future for Translated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::As(response) => Pin::new(response).poll(cx),
            Self::To(response) => response.as_mut().poll(cx),
        }
    }
}

impl<S> WebService<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + Unpin>
        + Clone
        + Send
        + 'static,
{
    fn web(&mut self, request: Request) -> ResponseFuture {
        // The one that was asked whether it is ready.
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        let mut web = GrpcWebLayer::new().layer(inner);
        match &self.layer.cors {
            Some(cors) => Box::pin(cors.layer(web).call(request)),
            None => Box::pin(web.call(request)),
        }
    }
}

enum Kind {
    Grpc,
    Web,
    /// A browser asks whether a page may call.
    Preflight,
    Other,
}

impl Kind {
    fn of(request: &Request) -> Self {
        let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        match content_type {
            Some(content_type) if content_type.starts_with(b"application/grpc-web") => Self::Web,
            Some(content_type) if content_type.starts_with(b"application/grpc") => Self::Grpc,
            _ => match request.method() {
                &Method::OPTIONS if request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) => {
                    Self::Preflight
                }
                _ => Self::Other,
            },
        }
    }
}

fn answer(response: Response) -> ResponseFuture {
    Box::pin(std::future::ready(Ok(response)))
}

fn text(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

//! gRPC-Web: gRPC for browsers, which have no trailers and often no HTTP/2.
//!
//! Outermost, so that everything further in sees gRPC. A page calls only the
//! server that it is from, unless the server was told of others. Over HTTP/1.1
//! there is gRPC-Web, a call a connection, and whatever else comes by it is told
//! what this server speaks.
//!
//! A head over HTTP/1.1 is held to the same time and size as one over HTTP/2.

use std::time::Duration;

use http::{
    HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{ACCESS_CONTROL_REQUEST_METHOD, CONNECTION, CONTENT_TYPE},
};
use tokio_util::either::Either;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, Service as _};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::around::{Around, HttpService, Request, Response, ResponseFuture, answer, refuse};
use crate::status::http2_needed;

/// What a script in a page may read of a response. The star is for the metadata
/// of services; browsers that do not know it have the names.
const EXPOSED: [HeaderName; 6] = [
    HeaderName::from_static("*"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-retry-pushback-ms"),
];

/// How long a browser may remember that it may call.
const REMEMBERED: Duration = Duration::from_secs(3600);

const SPEAKS: &str = "This is a gRPC server. It speaks gRPC over HTTP/2, and gRPC-Web: POST with the \
    content-type application/grpc-web or application/grpc-web-text.\n";
const OWN_PAGES: &str = "This server takes calls from pages of its own origin only; \
    `--grpc-web-origin ORIGIN` lets in others.\n";

pub(super) struct Web {
    /// Unset, no page of another origin may call.
    cors: Option<CorsLayer>,
}

impl Web {
    /// Pages of `origins` may call, and read `headers` of the responses.
    pub(super) fn new(origins: &[HeaderValue], headers: &[HeaderName]) -> Self {
        let allowed = match origins {
            [] => return Self { cors: None },
            origins if origins.iter().any(|origin| origin == "*") => AllowOrigin::any(),
            origins => AllowOrigin::list(origins.iter().cloned()),
        };
        let cors = CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(EXPOSED.iter().chain(headers).cloned().collect::<Vec<_>>())
            .max_age(REMEMBERED);
        Self { cors: Some(cors) }
    }
}

impl<S: HttpService> Around<S> for Web {
    /// The response as it came, or to what it was translated.
    type Future = Either<S::Future, ResponseFuture>;

    fn call(&self, request: Request, inner: &mut S) -> Self::Future {
        let is_http2 = request.version() == Version::HTTP_2;
        let response = match Kind::of(&request) {
            Kind::Web => self.translate(request, inner),
            Kind::Preflight if self.cors.is_some() => self.translate(request, inner),
            Kind::Preflight => answer(text(StatusCode::FORBIDDEN, OWN_PAGES)),
            Kind::Other | Kind::Grpc if is_http2 => return Either::Left(inner.call(request)),
            Kind::Grpc => refuse(http2_needed()),
            Kind::Other => answer(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, SPEAKS)),
        };
        if is_http2 {
            return Either::Right(response);
        }
        Either::Right(Box::pin(async {
            let mut response = response.await?;
            // What a further request might cost has no limit here.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Ok(response)
        }))
    }
}

impl Web {
    fn translate(&self, request: Request, inner: &mut impl HttpService) -> ResponseFuture {
        // The one that was asked whether it is ready.
        let ready = inner.clone();
        let inner = std::mem::replace(inner, ready);
        let mut web = GrpcWebLayer::new().layer(inner);
        match &self.cors {
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

fn text(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

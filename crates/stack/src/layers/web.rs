//! Recognizes calls by their HTTP request, and translates gRPC-Web: gRPC for browsers,
//! which have no trailers and often no HTTP/2.
//!
//! Outermost, so that all inner layers see gRPC. The rules are the same over HTTP/2 and
//! HTTP/1.1: a call is a POST with a content type of gRPC or gRPC-Web, and if a
//! [page](super::pages) makes it, the page must be allowed to. The answer to any other
//! request says what this server speaks. Over HTTP/1.1 there is only gRPC-Web, with one
//! call per connection.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CONNECTION, CONTENT_TYPE, ORIGIN},
};
use tokio_util::either::Either;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, Service as _};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::{
    around::{Around, HttpService, Request, Response, ResponseFuture, answer},
    pages::Pages,
};
use crate::{connection::Connection, metrics::Metrics, settings::Settings, status::http2_needed};

const GRPC: [&str; 2] = ["application/grpc", "application/grpc+proto"];
const GRPC_WEB: [&str; 4] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];

/// The response headers that a script in a page may read. The star is for the metadata
/// of services. Browsers that do not support it use the names.
const EXPOSED: [HeaderName; 6] = [
    HeaderName::from_static("*"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-retry-pushback-ms"),
];

/// How long a browser may cache the permission to call.
const REMEMBERED: Duration = Duration::from_secs(3600);

const SPEAKS: &str = "This is a gRPC server. It speaks gRPC over HTTP/2, and gRPC-Web: POST with the \
    content-type application/grpc, application/grpc-web or application/grpc-web-text.\n";

const OTHER_PAGE: &str = "This server accepts calls only from pages of its own origin; `--grpc-web-origin \
                          ORIGIN` allows another origin.\n";
const OTHER_NAME: &str = "A page called this server by an unknown host name; `--grpc-web-host NAME` allows a \
                          name.\n";

pub(super) struct Web {
    pages: Pages,
    cors: CorsLayer,
    metrics: Arc<Metrics>,
}

impl Web {
    pub(super) fn new(settings: &Settings, metrics: Arc<Metrics>) -> Self {
        let Settings { grpc_web_origins: origins, grpc_web_hosts: hosts, grpc_web_headers, .. } = settings;
        let allowed = match origins {
            origins if origins.iter().any(|origin| origin == "*") => AllowOrigin::any(),
            origins => AllowOrigin::list(origins.iter().cloned()),
        };
        let cors = CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(EXPOSED.iter().chain(grpc_web_headers).cloned().collect::<Vec<_>>())
            .max_age(REMEMBERED);
        Self { pages: Pages { origins: origins.clone(), hosts: hosts.clone() }, cors, metrics }
    }
}

impl<S: HttpService> Around<S> for Web {
    /// The response as it is, or its translation.
    type Future = Either<S::Future, ResponseFuture>;

    fn call(&self, mut request: Request, inner: &mut S) -> Self::Future {
        let is_http2 = request.version() == Version::HTTP_2;
        let of_page = Pages::make(request.headers());
        let may_make = || if of_page { self.pages.may_make(&request) } else { Ok(()) };
        let kind = Kind::of(&request).and_then(|kind| may_make().map(|()| kind));
        let response = match kind {
            Ok(Kind::Grpc) if is_http2 && !of_page => return Either::Left(inner.call(request)),
            Ok(Kind::Grpc) if !is_http2 => self.refuse(&request, NoCall::Http1),
            Ok(Kind::Grpc | Kind::Preflight) => self.translate(request, inner),
            Ok(Kind::Web(content_type)) => {
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
                self.translate(request, inner)
            }
            Err(no_call) => self.refuse(&request, no_call),
        };
        if is_http2 {
            return Either::Right(response);
        }
        Either::Right(Box::pin(async {
            let mut response = response.await?;
            // The cost of further requests on the connection has no limit here.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Ok(response)
        }))
    }
}

impl Web {
    fn refuse(&self, request: &Request, no_call: NoCall) -> ResponseFuture {
        let (reason, response) = match no_call {
            NoCall::Method => ("method", text(StatusCode::METHOD_NOT_ALLOWED, SPEAKS)),
            NoCall::ContentType => ("content_type", text(StatusCode::UNSUPPORTED_MEDIA_TYPE, SPEAKS)),
            NoCall::Origin => ("origin", text(StatusCode::FORBIDDEN, OTHER_PAGE)),
            NoCall::Host => ("host", text(StatusCode::FORBIDDEN, OTHER_NAME)),
            NoCall::Http1 => ("http_1_1", http2_needed().into_http()),
        };
        self.metrics.no_call(reason);
        let peer = Connection::of(request.extensions()).and_then(|it| it.peer);
        let peer = peer.map(tracing::field::display);
        tracing::info!(
            peer,
            reason,
            status = response.status().as_u16(),
            "rejected a request that is not a gRPC call"
        );
        answer(response)
    }

    fn translate(&self, request: Request, inner: &mut impl HttpService) -> ResponseFuture {
        // Uses the instance that was polled for readiness.
        let ready = inner.clone();
        let inner = std::mem::replace(inner, ready);
        Box::pin(self.cors.layer(GrpcWebLayer::new().layer(inner)).call(request))
    }
}

enum Kind {
    Grpc,
    /// The content type without parameters.
    Web(&'static str),
    /// A browser asks whether a page may call.
    Preflight,
}

/// Why a request is refused before it is a call.
pub(super) enum NoCall {
    Method,
    ContentType,
    /// From a page that may not call.
    Origin,
    /// From a page, with a host name that is not the server's.
    Host,
    /// gRPC over HTTP/1.1.
    Http1,
}

impl Kind {
    fn of(request: &Request) -> Result<Self, NoCall> {
        let headers = request.headers();
        match *request.method() {
            Method::POST => {}
            Method::OPTIONS
                if headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) =>
            {
                return Ok(Self::Preflight);
            }
            _ => return Err(NoCall::Method),
        }
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let bare = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |known: &&str| bare.eq_ignore_ascii_case(known.as_bytes());
        match GRPC_WEB.into_iter().find(is) {
            Some(web) => Ok(Self::Web(web)),
            None if GRPC.iter().any(is) => Ok(Self::Grpc),
            None => Err(NoCall::ContentType),
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

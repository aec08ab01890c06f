//! The page at `/metrics`, for Prometheus.
//!
//! The transport that serves gRPC serves this page too, with the same guard. So one
//! page needs no second HTTP server with limits of its own.

use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_TYPE},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, transport::server::TcpIncoming};
use tower::service_fn;

use crate::{accept::Guard, serve::Served, settings::Limits};

/// Few scrapers connect, and each needs only one page.
const SCRAPERS: usize = 8;

/// How long a connection may stay open. A scraper opens a new one anyway.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers `GET /metrics` with the metrics of `registry`, without end.
pub(crate) async fn answer(listener: TcpListener, registry: Registry, guard: &Guard) {
    let registry = Arc::new(registry);
    let served = Served {
        limits: Limits { connections: SCRAPERS, connection_age: PATIENCE, ..Limits::default() },
        // Without TLS, and not counted among the connections of callers.
        guard: Guard { tls: None, metrics: Arc::default(), ..guard.clone() },
        service: service_fn(move |request| ready(Ok::<_, Infallible>(page(&registry, &request)))),
        draining: CancellationToken::new(),
        budget: Arc::default(),
        farewell: Duration::ZERO,
    };
    served.clone().serve(served.admit(TcpIncoming::from(listener))).await;
}

fn page(registry: &Registry, request: &Request<Body>) -> Response<Body> {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut text = String::new();
    let (status, kind) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match encode(&mut text, registry) {
            Ok(()) => (StatusCode::OK, TEXT),
            Err(error) => {
                text = error.to_string();
                (StatusCode::INTERNAL_SERVER_ERROR, "text/plain")
            }
        },
        _ => {
            text.push_str("there is only GET /metrics\n");
            (StatusCode::NOT_FOUND, "text/plain")
        }
    };
    let mut response = Response::new(Body::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // The guard watches only the first request of a connection.
    if request.version() < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

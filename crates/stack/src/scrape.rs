//! The page at `/metrics`, for Prometheus.
//!
//! It comes by the transport that serves gRPC, and so behind the same guard: no
//! second HTTP server with limits of its own is needed for one page.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_TYPE},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tonic::transport::{Error, Server, server::TcpIncoming};
use tower::service_fn;

use crate::accept::{Guard, Guarded, admit};

/// Who asks wants one page, and there are not many who do.
const SCRAPERS: usize = 8;

/// How long a connection may be there: the next scrape comes anyway.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers `GET /metrics` with what is in `registry`, without end.
pub(crate) async fn answer(listener: TcpListener, registry: Registry, guard: &Guard) -> Result<(), Error> {
    // In the clear, and not among the connections of callers.
    let guard = Guard { tls: None, metrics: Arc::default(), ..guard.clone() };
    let admitted = admit(SCRAPERS, guard.metrics.clone(), TcpIncoming::from(listener));
    let registry = Arc::new(registry);
    Server::builder()
        .accept_http1(true)
        .max_connection_age(PATIENCE)
        .max_connection_age_grace(Duration::ZERO)
        .serve_with_incoming(
            service_fn(move |request: Request<_>| {
                std::future::ready(Ok::<_, Infallible>(page(&registry, &request)))
            }),
            admitted.map(move |admitted| Ok::<_, Infallible>(Guarded::new(admitted, &guard))),
        )
        .await
}

fn page<B>(registry: &Registry, request: &Request<B>) -> Response<String> {
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
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // The guard watches over one request.
    if request.version() < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

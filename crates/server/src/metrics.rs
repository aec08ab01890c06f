//! Figures for Prometheus, under the names that its gRPC dashboards know.
//!
//! Every label has values from a list: a method that nobody knows, of which
//! there may be a million, counts as `unknown`.

use std::{collections::HashMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use grpc_wire::Mode;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tonic::Code;

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    methods: HashMap<String, Arc<MethodMetrics>>,
    unknown: Arc<MethodMetrics>,
    /// Open now.
    pub(crate) connections: Gauge,
    refused: Family<Refused, Counter>,
    /// From the call to the store until it is durable.
    pub(crate) commits: Histogram,
}

/// Of one method.
#[derive(Debug)]
pub(crate) struct MethodMetrics {
    labels: MethodLabels,
    handled: Family<Handled, Counter>,
    started: Counter,
    open: Gauge,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    seconds: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    grpc_type: &'static str,
    grpc_service: String,
    grpc_method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_type: &'static str,
    grpc_service: String,
    grpc_method: String,
    grpc_code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    limit: &'static str,
}

/// In seconds: from the time of a call on one machine to that of a long stream.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 60.0, 600.0];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

#[derive(Default)]
struct Families {
    started: Family<MethodLabels, Counter>,
    handled: Family<Handled, Counter>,
    received: Family<MethodLabels, Counter>,
    sent: Family<MethodLabels, Counter>,
    open: Family<MethodLabels, Gauge>,
}

impl Metrics {
    /// For methods by their path.
    pub(crate) fn new<'a>(methods: impl Iterator<Item = (&'a str, Mode)>) -> Self {
        let families = Families::default();
        let seconds = Family::<MethodLabels, Histogram>::new_with_constructor(histogram);
        let of = |path: &str, mode: Option<Mode>| {
            let (service, method) =
                path.trim_start_matches('/').split_once('/').unwrap_or(("unknown", "unknown"));
            let labels = MethodLabels {
                grpc_type: mode.map_or("unknown", kind),
                grpc_service: service.to_owned(),
                grpc_method: method.to_owned(),
            };
            Arc::new(MethodMetrics {
                handled: families.handled.clone(),
                started: families.started.get_or_create_owned(&labels),
                open: families.open.get_or_create_owned(&labels),
                received: families.received.get_or_create_owned(&labels),
                sent: families.sent.get_or_create_owned(&labels),
                seconds: seconds.get_or_create_owned(&labels),
                labels,
            })
        };
        let methods = methods.map(|(path, mode)| (path.to_owned(), of(path, Some(mode)))).collect();
        let unknown = of("", None);
        let (connections, refused, commits) = (Gauge::default(), Family::default(), histogram());
        let mut registry = Registry::default();
        let grpc = registry.sub_registry_with_prefix("grpc_server");
        grpc.register("started", "Calls that began", families.started.clone());
        grpc.register("handled", "Calls that ended, by their status", families.handled.clone());
        grpc.register("msg_received", "Messages of clients", families.received.clone());
        grpc.register("msg_sent", "Messages to clients", families.sent.clone());
        grpc.register_with_unit("handling", "How long calls took", Unit::Seconds, seconds.clone());
        let own = registry.sub_registry_with_prefix("fourmodes");
        own.register("open_calls", "Calls that are open", families.open.clone());
        own.register("connections", "Connections that are open", connections.clone());
        own.register("refused", "Calls and connections over a limit", refused.clone());
        own.register_with_unit("store_commit", "How long commits took", Unit::Seconds, commits.clone());
        Self { registry, methods, unknown, connections, refused, commits }
    }

    pub(crate) fn of(&self, path: &str) -> &Arc<MethodMetrics> {
        self.methods.get(path).unwrap_or(&self.unknown)
    }

    pub(crate) fn refused(&self, limit: &'static str) {
        self.refused.get_or_create(&Refused { limit }).inc();
    }

    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl MethodMetrics {
    pub(crate) fn call_started(&self) {
        self.started.inc();
        self.open.inc();
    }

    pub(crate) fn call_ended(&self, code: Code, took: Duration) {
        self.open.dec();
        self.seconds.observe(took.as_secs_f64());
        let MethodLabels { grpc_type, grpc_service, grpc_method } = self.labels.clone();
        let labels = Handled { grpc_type, grpc_service, grpc_method, grpc_code: code_label(code) };
        self.handled.get_or_create(&labels).inc();
    }
}

/// As the dashboards have it.
fn kind(mode: Mode) -> &'static str {
    match mode {
        Mode::Unary => "unary",
        Mode::ServerStreaming => "server_stream",
        Mode::ClientStreaming => "client_stream",
        Mode::BidiStreaming => "bidi_stream",
    }
}

/// Likewise: `NotFound`, not NOT_FOUND.
fn code_label(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// Answers `GET /metrics` on `address` until it is dropped.
///
/// # Errors
///
/// When nothing can listen there.
pub(crate) async fn listen(
    address: SocketAddr,
    metrics: Arc<Metrics>,
) -> std::io::Result<impl Future<Output = ()>> {
    /// Whoever asks wants one page, and there are not many who do.
    const SCRAPERS: usize = 8;
    const PATIENCE: Duration = Duration::from_secs(10);
    let listener = TcpListener::bind(address).await?;
    tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
    Ok(async move {
        let places = Arc::new(Semaphore::new(SCRAPERS));
        loop {
            let (Ok(place), accepted) = (places.clone().acquire_owned().await, listener.accept().await)
            else {
                return;
            };
            let Ok((connection, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let metrics = metrics.clone();
            tokio::spawn(async move {
                let answer = hyper::service::service_fn(|request| {
                    std::future::ready(Ok::<_, Infallible>(page(&metrics, &request)))
                });
                let mut http = http1::Builder::new();
                let served = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(connection), answer);
                // Cut when it takes too long: the next scrape comes anyway.
                let _ = timeout(PATIENCE, served).await;
                drop(place);
            });
        }
    })
}

fn page<B>(metrics: &Metrics, request: &Request<B>) -> Response<String> {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match metrics.text() {
            Ok(text) => (StatusCode::OK, TEXT, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
        },
        _ => (StatusCode::NOT_FOUND, "text/plain", "there is only GET /metrics\n".to_owned()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

//! Metrics for Prometheus, with the names of the usual gRPC dashboards.
//!
//! Label values come from a fixed list: unknown methods, of which there may be a million, count as
//! `unknown`.

use std::{sync::Arc, time::Duration};

use grpc_wire::Mode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tonic::Code;

use crate::settings;

/// The default is not in a registry.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    methods: Families,
    /// The connections that are open now.
    pub(crate) connections: Gauge,
    refused: Family<Limit, Counter>,
    no_calls: Family<NoCall, Counter>,
    limits: Family<Limit, Gauge>,
}

#[derive(Debug)]
struct Families {
    started: Family<MethodLabels, Counter>,
    handled: Family<Handled, Counter>,
    received: Family<MethodLabels, Counter>,
    sent: Family<MethodLabels, Counter>,
    open: Family<MethodLabels, Gauge>,
    seconds: Family<MethodLabels, Histogram>,
}

/// The metrics of one method.
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
struct Limit {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoCall {
    reason: &'static str,
}

/// In seconds: from a call on one machine to a long stream.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 60.0, 600.0];

impl Default for Families {
    fn default() -> Self {
        Self {
            started: Family::default(),
            handled: Family::default(),
            received: Family::default(),
            sent: Family::default(),
            open: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

impl Metrics {
    /// Registers the metrics. The names of metrics that are not part of the gRPC
    /// dashboards begin with `name`.
    pub(crate) fn register(&self, registry: &mut Registry, name: &str, limits: &settings::Limits) {
        let Self { methods, connections, refused, no_calls, limits: most } = self;
        for (limit, value) in [("max_calls", limits.calls), ("max_connections", limits.connections)] {
            most.get_or_create(&Limit { limit }).set(value.try_into().unwrap_or(i64::MAX));
        }
        let grpc = registry.sub_registry_with_prefix("grpc_server");
        grpc.register("started", "Calls that began", methods.started.clone());
        grpc.register("handled", "Ended calls, by status", methods.handled.clone());
        grpc.register("msg_received", "Messages of clients", methods.received.clone());
        grpc.register("msg_sent", "Messages to clients", methods.sent.clone());
        grpc.register_with_unit("handling", "How long calls took", Unit::Seconds, methods.seconds.clone());
        let own = registry.sub_registry_with_prefix(name);
        own.register("open_calls", "Calls that are open", methods.open.clone());
        own.register("connections", "Connections that are open", connections.clone());
        own.register("refused", "Calls and connections over a limit", refused.clone());
        own.register("limit", "The limits of open calls and connections", most.clone());
        own.register("no_calls", "Rejected requests that are not gRPC calls", no_calls.clone());
    }

    /// The metrics of a method with the path `/service/method`.
    pub(crate) fn of(&self, path: &str, mode: Option<Mode>) -> Arc<MethodMetrics> {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let labels = MethodLabels {
            grpc_type: mode.map_or("unknown", kind),
            grpc_service: service.to_owned(),
            grpc_method: method.to_owned(),
        };
        let Families { started, handled, received, sent, open, seconds } = &self.methods;
        Arc::new(MethodMetrics {
            handled: handled.clone(),
            started: started.get_or_create_owned(&labels),
            open: open.get_or_create_owned(&labels),
            received: received.get_or_create_owned(&labels),
            sent: sent.get_or_create_owned(&labels),
            seconds: seconds.get_or_create_owned(&labels),
            labels,
        })
    }

    pub(crate) fn refused(&self, limit: &'static str) {
        self.refused.get_or_create(&Limit { limit }).inc();
    }

    pub(crate) fn no_call(&self, reason: &'static str) {
        self.no_calls.get_or_create(&NoCall { reason }).inc();
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

/// The name of a mode in the dashboards.
fn kind(mode: Mode) -> &'static str {
    match mode {
        Mode::Unary => "unary",
        Mode::ServerStreaming => "server_stream",
        Mode::ClientStreaming => "client_stream",
        Mode::BidiStreaming => "bidi_stream",
    }
}

/// The name of a code in the dashboards: `NotFound`, not NOT_FOUND.
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

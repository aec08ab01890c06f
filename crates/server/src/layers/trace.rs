//! Sees each call from its first header to its last trailer: a span a call, a
//! line at its beginning (streams) and end (all), at debug level a line for
//! each message, the counts that `GetStatus` tells, and those for Prometheus.
//!
//! It reads gRPC's message prefixes from the bodies, so handlers have nothing
//! to do for it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::HeaderValue;
use http_body::Frame;
use shared_proto::{
    Mode, code_name,
    frames::{Frames, Part},
};
use tonic::{Code, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument as _, Level, Span, enabled, field::Empty};

use super::methods::Methods;
use crate::{
    activity::{Activity, Counters},
    connections::Connection,
    metrics::{MethodMetrics, Metrics},
};

#[derive(Clone)]
pub(crate) struct Trace {
    pub(crate) methods: Arc<Methods>,
    pub(crate) activity: Arc<Activity>,
    /// Unset, nobody asks for them.
    pub(crate) metrics: Option<Arc<Metrics>>,
}

#[derive(Clone)]
pub(crate) struct TraceService<S> {
    layer: Arc<Trace>,
    inner: S,
}

impl<S> Layer<S> for Trace {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TraceService { layer: Arc::new(self.clone()), inner }
    }
}

type Response = http::Response<Body>;

impl<S> Service<http::Request<Body>> for TraceService<S>
where
    S: Service<http::Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let mode = self.layer.methods.mode(request.uri().path());
        if let Some(mode) = mode {
            request.extensions_mut().insert(mode);
        }
        let call = Arc::new(Call::begin(&self.layer, mode, &request));
        let request = request.map(|body| Observed::wrap(body, Direction::Received, call.clone()));
        let response = call.span.in_scope(|| self.inner.call(request)).instrument(call.span.clone());
        Box::pin(async move {
            let response = response.await?;
            call.note_status(response.headers());
            Ok(response.map(|body| Observed::wrap(body, Direction::Sent, call)))
        })
    }
}

/// One call. Both bodies hold it, so it is dropped when the call is over on
/// both sides, however it ended.
struct Call {
    span: Span,
    mode: Option<Mode>,
    activity: Arc<Activity>,
    metrics: Option<MethodMetrics>,
    begun: Instant,
    received: AtomicU64,
    sent: AtomicU64,
    /// The status that was sent; before that, the one of a call whose client
    /// went away.
    code: AtomicI32,
}

impl Call {
    fn begin(layer: &Trace, mode: Option<Mode>, request: &http::Request<Body>) -> Self {
        let path = request.uri().path();
        let peer = request.extensions().get::<Arc<Connection>>().and_then(|connection| connection.peer);
        let span = span(path, peer);
        if let Some(id) = request.headers().get("traceparent").and_then(trace_id) {
            span.record("trace_id", id);
        }
        let metrics = layer.metrics.as_ref().map(|metrics| metrics.of(path).clone());
        if let Some(metrics) = &metrics {
            metrics.call_started();
        }
        if let Some(mode) = mode {
            layer.activity.of(mode).call_started();
            if mode != Mode::Unary {
                tracing::info!(parent: &span, "{mode} began");
            }
        }
        Self {
            span,
            mode,
            activity: layer.activity.clone(),
            metrics,
            begun: Instant::now(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            code: AtomicI32::new(Code::Cancelled as i32),
        }
    }

    fn note_status(&self, headers: &http::HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code.store(Code::from_bytes(status.as_bytes()) as i32, Relaxed);
        }
    }
}

fn span(path: &str, peer: Option<SocketAddr>) -> Span {
    let peer = peer.map(tracing::field::display);
    tracing::info_span!("call", method = path, peer, trace_id = Empty, caller = Empty)
}

/// The trace that the call is a part of, from W3C Trace Context: what the
/// client's own log calls it.
fn trace_id(value: &HeaderValue) -> Option<&str> {
    let mut fields = value.to_str().ok()?.split('-');
    let [version, trace, parent, _flags] = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    let is_hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |text: &str| text.bytes().all(|digit| digit == b'0');
    let is_one = is_hex(version, 2) && version != "ff" && is_hex(trace, 32) && is_hex(parent, 16);
    (is_one && !is_zero(trace) && !is_zero(parent)).then_some(trace)
}

impl Drop for Call {
    fn drop(&mut self) {
        let (received, sent) = (self.received.load(Relaxed), self.sent.load(Relaxed));
        if let Some(mode) = self.mode {
            self.activity.of(mode).call_ended();
        }
        let code = Code::from_i32(self.code.load(Relaxed));
        if let Some(metrics) = &self.metrics {
            metrics.call_ended(code, self.begun);
        }
        let code = code_name(code);
        let elapsed_ms = || self.begun.elapsed().as_micros() as f64 / 1e3;
        let mode = self.mode.map_or("unknown method", Mode::name);
        tracing::info!(parent: &self.span, %code, received, sent, elapsed_ms = elapsed_ms(), "{mode} ended");
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Received,
    Sent,
}

/// A body whose messages are counted as they pass.
struct Observed {
    body: Body,
    direction: Direction,
    frames: Frames,
    call: Arc<Call>,
}

impl Observed {
    fn wrap(body: Body, direction: Direction, call: Arc<Call>) -> Body {
        Body::new(Self { body, direction, frames: Frames::default(), call })
    }

    fn note(&mut self, chunk: &[u8]) {
        let Self { direction, frames, call, .. } = self;
        let (counter, verb, add): (_, _, fn(&Counters, u64)) = match direction {
            Direction::Received => (&call.received, "received", Counters::messages_received),
            Direction::Sent => (&call.sent, "sent", Counters::messages_sent),
        };
        let before = counter.load(Relaxed);
        let mut count = before;
        if enabled!(Level::DEBUG) {
            frames.feed(chunk, |part| {
                if let Part::Begin { length: bytes, .. } = part {
                    count += 1;
                    tracing::debug!(parent: &call.span, bytes, "message {count} {verb}");
                }
            });
        } else {
            count += frames.begun(chunk).0;
        }
        if count == before {
            return;
        }
        counter.store(count, Relaxed);
        if let Some(mode) = call.mode {
            add(call.activity.of(mode), count - before);
        }
        if let Some(metrics) = &call.metrics {
            let counter = match direction {
                Direction::Received => &metrics.received,
                Direction::Sent => &metrics.sent,
            };
            counter.inc_by(count - before);
        }
    }
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let span = self.call.span.clone();
        let _entered = span.enter();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                self.note(data);
            } else if let Some(trailers) = frame.trailers_ref()
                && matches!(self.direction, Direction::Sent)
            {
                self.call.note_status(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

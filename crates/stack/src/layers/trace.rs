//! Sees each call from its first header to its last trailer: a span a call, a
//! line at its beginning (streams) and end (all) unless there are
//! [too many](crate::Lines), at debug level a line for each message, the counts of
//! [`Activity`](crate::Activity), and those for Prometheus.
//! Gives every layer further in the [`Call`] that it is about.
//!
//! Messages are found by gRPC's prefixes in the bodies, so handlers have nothing
//! to do for it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;
use tower::Service;
use tracing::{Span, field::Empty};

use super::{
    around::{Around, Request, Response, ResponseFuture},
    call::{Call, Over, Requests, Responses},
};
use crate::{connection::Connection, methods::Methods, metrics::Metrics};

/// How much of a path the log has, in bytes.
const LONGEST_PATH: usize = 256;
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

pub(super) struct Trace {
    pub(super) methods: Arc<Methods>,
    pub(super) metrics: Arc<Metrics>,
}

impl<S> Around<S> for Trace
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
{
    type Future = Traced;

    fn call(&self, mut request: Request, inner: &mut S) -> Traced {
        let call = Arc::new(self.begin(&request));
        request.extensions_mut().insert(call.clone());
        let (head, body) = request.into_parts();
        let (body, over) = Requests::wrap(body, call.clone());
        let request = Request::from_parts(head, body);
        let response = call.span.in_scope(|| inner.call(request));
        Traced { response, call, over }
    }
}

/// The response to a call, until its head is there.
pub(super) struct Traced {
    response: ResponseFuture,
    call: Arc<Call>,
    over: Over,
}

impl Future for Traced {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { response, call, over } = &mut *self;
        let _entered = call.span.enter();
        let response = ready!(response.as_mut().poll(cx))?;
        call.note_status(response.headers());
        Poll::Ready(Ok(response.map(|body| Responses::wrap(body, call.clone(), over.take()))))
    }
}

impl Trace {
    fn begin(&self, request: &Request) -> Call {
        let (path, begun) = (request.uri().path(), Instant::now());
        let method = self.methods.of(path);
        let peer = || Connection::of(request.extensions()).and_then(|connection| connection.peer);
        let span = if method.lines.admit(begun) { span(path, peer()) } else { Span::none() };
        if let Some(id) = request.headers().get(&TRACEPARENT).and_then(trace_id) {
            span.record("trace_id", id);
        }
        // Without a transport there are none.
        let bounds = request.extensions().get().cloned().unwrap_or_default();
        Call::begin(span, begun, method, self.metrics.clone(), bounds)
    }
}

fn span(path: &str, peer: Option<SocketAddr>) -> Span {
    // A client that repeats a long one pays for it once, by HPACK.
    let path = &path[..path.floor_char_boundary(LONGEST_PATH)];
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

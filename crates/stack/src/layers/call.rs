//! One call, from its first header to its last trailer. It is in the extensions of the
//! request, for layers and handlers, and in both bodies.
//!
//! Several layers need the same facts about the frames of a call: how many messages
//! there are and how long, whether anything moves, and how the call ends. So one body
//! in each direction observes the frames for all layers. A body for each layer would
//! cost small messages more than their handlers do.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use grpc_wire::{
    Mode,
    body::{Observer, Seen, observe},
    code_name,
    frames::{Frames, Part},
};
use http::{Extensions, HeaderName};
use http_body::Frame;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};
use tracing::{Level, Span, enabled};

use crate::{
    bounds::Bounds,
    methods::Method,
    metrics::Metrics,
    status::{message_too_long, not_begun, not_one_request},
};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Permits among all open calls, and among the calls that need no token.
pub(super) type Places = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// One call: what a handler may ask about it, and tell the layers. It is in the
/// extensions of the request.
// Both bodies hold it, so it is dropped when both sides of the call are over, however
// the call ended.
#[derive(Debug)]
pub struct Call {
    pub(super) span: Span,
    pub(super) begun: Instant,
    pub(super) method: Arc<Method>,
    metrics: Arc<Metrics>,
    received: AtomicU64,
    sent: AtomicU64,
    /// The status that was sent. Before that, the status for a client that goes away.
    code: AtomicI32,
    /// The longest message that the client may send, in bytes.
    longest: AtomicU32,
    places: OnceLock<Places>,
    pub(super) motion: Arc<Motion>,
    pub(super) bounds: Arc<Bounds>,
}

/// Whether anything moves on a call.
#[derive(Debug, Default)]
pub(super) struct Motion {
    /// Whether there was a frame in either direction since the last query.
    moved: AtomicBool,
    /// How many guards suspend the idle timeout.
    suspended: AtomicU32,
}

impl Motion {
    /// Whether anything has moved since the last query, or the timeout is suspended.
    pub(super) fn moved(&self) -> bool {
        self.moved.swap(false, Relaxed) || self.suspended.load(Relaxed) > 0
    }
}

impl Call {
    /// The call of a request.
    ///
    /// # Errors
    ///
    /// INTERNAL when the request has not passed through the stack.
    pub fn of(extensions: &Extensions) -> Result<&Arc<Self>, Status> {
        extensions.get().ok_or_else(not_begun)
    }

    /// The mode of the method, or `None` for a path that is not in the descriptors.
    pub fn mode(&self) -> Option<Mode> {
        self.method.mode
    }

    /// Suspends the idle timeout of the call until the returned guard is dropped: for a
    /// handler that is silent because the client asked for that.
    pub fn suspend_idle_timeout(self: &Arc<Self>) -> IdleTimeoutSuspended {
        self.motion.suspended.fetch_add(1, Relaxed);
        IdleTimeoutSuspended(self.motion.clone())
    }

    /// Begins the call. What no layer has limited yet is unlimited.
    pub(super) fn begin(
        span: Span,
        begun: Instant,
        method: Arc<Method>,
        metrics: Arc<Metrics>,
        bounds: Arc<Bounds>,
    ) -> Self {
        if let Some(metrics) = &method.metrics {
            metrics.call_started();
        }
        if let Some(mode) = method.mode {
            method.activity.of(mode).call_started();
            if mode != Mode::Unary && !span.is_disabled() {
                tracing::info!(parent: &span, "{mode} began");
            }
        }
        Self {
            span,
            begun,
            method,
            metrics,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            code: AtomicI32::new(Code::Cancelled as i32),
            longest: AtomicU32::new(u32::MAX),
            places: OnceLock::new(),
            motion: Arc::default(),
            bounds,
        }
    }

    /// Limits the client's messages to `longest` bytes, and keeps the permits of the
    /// call for as long as it is open.
    pub(super) fn bound(&self, longest: u32, places: Places) {
        self.longest.store(longest, Relaxed);
        // This is called once.
        let _ = self.places.set(places);
    }

    pub(super) fn refused(&self, limit: &'static str) {
        self.metrics.refused(limit);
    }

    pub(super) fn note_status(&self, headers: &http::HeaderMap) {
        if let Some(status) = headers.get(&GRPC_STATUS) {
            self.code.store(Code::from_bytes(status.as_bytes()) as i32, Relaxed);
        }
    }

    /// Counts the messages that begin in a chunk. Returns the length of the longest of
    /// them in bytes.
    fn note(&self, direction: Direction, frames: &mut Frames, chunk: &[u8]) -> u32 {
        self.motion.moved.store(true, Relaxed);
        let counter = match direction {
            Direction::Received => &self.received,
            Direction::Sent => &self.sent,
        };
        let before = counter.load(Relaxed);
        let (mut count, mut longest) = (0, 0);
        if enabled!(Level::DEBUG) {
            frames.feed(chunk, |part| {
                if let Part::Begin { length: bytes, .. } = part {
                    (count, longest) = (count + 1, bytes.max(longest));
                    let (number, verb) = (before + count, direction.verb());
                    tracing::debug!(parent: &self.span, bytes, "message {number} {verb}");
                }
            });
        } else {
            (count, longest) = frames.begun(chunk);
        }
        if count > 0 {
            counter.store(before + count, Relaxed);
            self.add(direction, count);
        }
        longest
    }

    /// Adds to the counts of all calls.
    fn add(&self, direction: Direction, messages: u64) {
        let Method { mode, activity, metrics, .. } = &*self.method;
        if let Some(mode) = mode {
            let counters = activity.of(*mode);
            match direction {
                Direction::Received => counters.messages_received(messages),
                Direction::Sent => counters.messages_sent(messages),
            }
        }
        if let Some(metrics) = metrics {
            match direction {
                Direction::Received => metrics.received.inc_by(messages),
                Direction::Sent => metrics.sent.inc_by(messages),
            };
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let (received, sent) = (self.received.load(Relaxed), self.sent.load(Relaxed));
        let Method { mode, activity, metrics, .. } = &*self.method;
        if let Some(mode) = mode {
            activity.of(*mode).call_ended();
        }
        let code = Code::from_i32(self.code.load(Relaxed));
        if let Some(metrics) = metrics {
            metrics.call_ended(code, self.begun.elapsed());
        }
        // Without a span it is one of too many, of which only the faults of the server have lines.
        let method = self.span.is_disabled().then_some(&*self.method.lines.method);
        if method.is_some() && !matches!(code, Code::Unknown | Code::Internal | Code::DataLoss) {
            return;
        }
        let code = code_name(code);
        let elapsed_ms = || self.begun.elapsed().as_micros() as f64 / 1e3;
        let mode = mode.map_or("unknown method", Mode::name);
        tracing::info!(parent: &self.span, method, %code, received, sent, elapsed_ms = elapsed_ms(), "{mode} ended");
    }
}

/// Suspends the idle timeout of a call for as long as it exists.
#[derive(Debug)]
#[must_use = "the timeout runs again when this is dropped"]
pub struct IdleTimeoutSuspended(Arc<Motion>);

impl Drop for IdleTimeoutSuspended {
    fn drop(&mut self) {
        self.0.suspended.fetch_sub(1, Relaxed);
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Received,
    Sent,
}

impl Direction {
    fn verb(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Sent => "sent",
        }
    }
}

/// Belongs to the requests of a call. Dropping it ends them.
pub(super) type Over = Option<DropGuard>;

/// The body of the requests.
pub(super) struct Requests {
    body: Body,
    frames: Frames,
    /// How many bytes of an incomplete message are held.
    held: usize,
    call: Arc<Call>,
    /// For a call with a stream of requests: its requests fail when the call is over. A
    /// handler may read them in a task of its own. That task would keep the stream open,
    /// and would take the end of the requests for a half-close of the client.
    over: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The mode of a call that has one request. tonic's generated code reads to the end
    /// of the requests before it runs the handler of such a call, so any other number
    /// of requests fails the call first.
    one: Option<Mode>,
    failed: bool,
}

impl Requests {
    /// The requests end when the second value is dropped.
    pub(super) fn wrap(body: Body, call: Arc<Call>) -> (Body, Over) {
        let many = call.mode().is_some_and(Mode::has_many_requests);
        let token = many.then(CancellationToken::new);
        let over = token.clone().map(|token| Box::pin(token.cancelled_owned()));
        let one = call.mode().filter(|mode| !mode.has_many_requests());
        let requests = Self { body, frames: Frames::default(), held: 0, call, over, one, failed: false };
        (Body::new(requests), token.map(CancellationToken::drop_guard))
    }

    /// Counts the bytes of an incomplete message, which wait in memory for the rest.
    fn hold(&mut self) -> Result<(), Status> {
        let partial = self.frames.partial() as usize;
        let before = std::mem::replace(&mut self.held, partial);
        let held = &self.call.bounds.held;
        match partial.checked_sub(before) {
            Some(more) => held.take(more).inspect_err(|_| self.held = before),
            None => {
                held.give_back(before - partial);
                Ok(())
            }
        }
    }

    fn fail<T>(&mut self, status: Status) -> Poll<Option<Result<T, Status>>> {
        self.failed = true;
        self.body = Body::empty();
        self.call.bounds.held.give_back(std::mem::take(&mut self.held));
        Poll::Ready(Some(Err(status)))
    }
}

impl http_body::Body for Requests {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.failed {
            return Poll::Ready(None);
        }
        let _entered = this.call.span.clone().entered();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            let (longest, most) = (
                this.call.note(Direction::Received, &mut this.frames, data),
                this.call.longest.load(Relaxed),
            );
            if longest > most {
                this.call.refused("max_message");
                return this.fail(message_too_long(longest, most));
            }
            if let Err(status) = this.hold() {
                this.call.refused("max_buffered");
                return this.fail(status);
            }
        }
        if let (Some(mode), Poll::Ready(frame)) = (this.one, &frame) {
            let is_end = frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
            match this.call.received.load(Relaxed) {
                0 if is_end => return this.fail(not_one_request(mode, "none")),
                0 | 1 => {}
                _ => return this.fail(not_one_request(mode, "more")),
            }
        }
        // Data passes as it is. Only an apparent end has to be checked.
        match &mut this.over {
            Some(over) if !matches!(frame, Poll::Ready(Some(_))) => match over.as_mut().poll(cx) {
                Poll::Ready(()) => this.fail(Status::cancelled("the call is over")),
                Poll::Pending => frame,
            },
            _ => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        let lacks_request = self.one.is_some() && self.call.received.load(Relaxed) == 0;
        self.body.is_end_stream() && !lacks_request
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.call.bounds.held.give_back(self.held);
    }
}

/// The body of the responses.
pub(super) struct Responses {
    frames: Frames,
    call: Arc<Call>,
    _over: Over,
}

impl Responses {
    pub(super) fn wrap(body: Body, call: Arc<Call>, over: Over) -> Body {
        observe(body, Self { frames: Frames::default(), call, _over: over })
    }
}

impl Observer for Responses {
    fn ask<T>(&mut self, next: impl FnOnce() -> T) -> T {
        self.call.span.in_scope(next)
    }

    fn see(&mut self, seen: Seen<'_>, _: &Body) {
        match seen {
            Seen::Data(data) => {
                self.call.note(Direction::Sent, &mut self.frames, data);
            }
            Seen::Trailers(trailers) => self.call.note_status(trailers),
            Seen::Error(_) | Seen::End => {}
        }
    }
}

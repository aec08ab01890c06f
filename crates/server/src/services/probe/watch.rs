//! Observes a probe below gRPC, where a handler cannot: the headers of the call as they
//! arrived, whether the client half-closed or cancelled, and how much of the response
//! was sent. It also changes the response in ways that a handler cannot.

use std::{
    convert::Infallible,
    error::Error as _,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use grpc_wire::{
    Mode,
    body::{Observer, Seen, observe},
};
use h2::Reason;
use http::{HeaderMap, Version, header::CONTENT_TYPE};
use http_body::{Body as _, Frame};
use stack::{IdleTimeoutSuspended, Limits};
use tokio::sync::oneshot;
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::Service;

use super::{
    observation::Call,
    script::{Ending, Script},
};

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// In the extensions of a probe's request.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) call: Arc<Call>,
    plan: Arc<OnceLock<Plan>>,
    /// The call as the stack sees it.
    outside: Option<Arc<stack::Call>>,
}

/// How to change a response on its way out.
#[derive(Debug, Clone, Default)]
struct Plan {
    initial: HeaderMap,
    trailing: HeaderMap,
    /// Replaces OK, if set: OK with a message.
    status: Option<Status>,
    reset: Option<Reason>,
}

impl Watched {
    /// Called once the script is known.
    pub(super) fn plan(&self, script: &mut Script) {
        let (status, reset) = match &script.ending {
            Ending::Status(status) if status.code() == Code::Ok => (Some(status.clone()), None),
            Ending::Reset(reason) => (None, Some(*reason)),
            _ => (None, None),
        };
        let initial = std::mem::take(&mut script.initial_metadata);
        let trailing = std::mem::take(&mut script.trailing_metadata);
        // Each call has one script.
        let _ = self.plan.set(Plan { initial, trailing, status, reset });
    }

    /// While the returned guard exists, the idle timeout does not end the call.
    pub(super) fn suspend_idle_timeout(&self) -> Option<IdleTimeoutSuspended> {
        self.outside.as_ref().map(stack::Call::suspend_idle_timeout)
    }
}

/// The probe service, with its calls watched.
#[derive(Debug, Clone)]
pub(crate) struct Watch<S> {
    pub(super) inner: S,
    pub(super) instance_id: Arc<str>,
    pub(super) limits: Limits,
}

impl<S: NamedService> NamedService for Watch<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request> for Watch<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let outside = stack::Call::of(request.extensions()).ok().cloned();
        let is_unary = outside.as_ref().is_some_and(|call| call.mode() == Some(Mode::Unary));
        let call = Arc::new(Call::begin(&request, &self.instance_id, &self.limits, is_unary));
        if request.body().is_end_stream() {
            call.half_closed();
        }
        let watched = Watched { call: call.clone(), plan: Arc::default(), outside };
        let plan = watched.plan.clone();
        request.extensions_mut().insert(watched);
        let is_http2 = request.version() == Version::HTTP_2;
        let arriving = call.clone();
        let request = request.map(|body| observe(body, Arriving { is_http2, call: arriving, over: false }));
        let life = Life(call);
        let response = self.inner.call(request);
        Box::pin(async move { response.await.map(|response| leave(response, plan, life)) })
    }
}

/// Reports the end of a call when it is dropped.
#[derive(Debug)]
struct Life(Arc<Call>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.dropped();
    }
}

/// Observes how a request body ends. A handler cannot distinguish the end from a reset,
/// because its stream just ends in both cases.
struct Arriving {
    is_http2: bool,
    call: Arc<Call>,
    over: bool,
}

impl Observer for Arriving {
    fn see(&mut self, seen: Seen<'_>, body: &Body) {
        if self.over {
            return;
        }
        self.over = true;
        match seen {
            Seen::Data(_) => self.over = false,
            // The stream was reset without an error, so the client has not half-closed.
            Seen::End if self.is_http2 && !body.is_end_stream() => self.call.cancelled(),
            Seen::End | Seen::Trailers(_) => self.call.half_closed(),
            // An error with a source comes from the connection, not from a layer.
            Seen::Error(status) if status.source().is_some() => self.call.cancelled(),
            Seen::Error(_) => {}
        }
    }
}

/// Applies the script to a response.
fn leave(response: Response, plan: Arc<OnceLock<Plan>>, life: Life) -> Response {
    let plan = Arc::try_unwrap(plan).unwrap_or_else(|plan| plan.as_ref().clone());
    // Unset if the script was refused.
    let plan = plan.into_inner().unwrap_or_default();
    let (mut head, body) = response.into_parts();
    let state = match head.headers.contains_key("grpc-status") {
        // The response has only a status.
        true if plan.initial.is_empty() => {
            add(&mut head.headers, &plan.trailing);
            life.0.ended();
            return Response::from_parts(head, body);
        }
        true => {
            let content_type = head.headers.remove(CONTENT_TYPE);
            let trailers = std::mem::take(&mut head.headers);
            head.headers.extend(content_type.map(|value| (CONTENT_TYPE, value)));
            State::Trailers(trailers)
        }
        false => State::Open(body),
    };
    add(&mut head.headers, &plan.initial);
    Response::from_parts(head, Body::new(Leaving { state, plan, life }))
}

fn add(headers: &mut HeaderMap, more: &HeaderMap) {
    for (name, value) in more {
        headers.append(name, value.clone());
    }
}

/// A response body that ends as the script says.
struct Leaving {
    state: State,
    plan: Plan,
    life: Life,
}

enum State {
    Open(Body),
    /// Only the trailers are left.
    Trailers(HeaderMap),
    /// Waits until everything before the reset is written, because a reset discards the
    /// rest.
    Resetting(Reason, oneshot::Receiver<Infallible>),
    Over,
}

/// Empty data. It is dropped when everything before it is written.
struct Mark {
    _written: oneshot::Sender<Infallible>,
}

impl AsRef<[u8]> for Mark {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

impl Leaving {
    fn over<T>(&mut self, last: T) -> Poll<T> {
        self.state = State::Over;
        self.life.0.ended();
        Poll::Ready(last)
    }
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let mut trailers = match &mut this.state {
            State::Over => return Poll::Ready(None),
            State::Resetting(reason, written) => {
                let reset = h2::Error::from(*reason);
                let _ = ready!(Pin::new(written).poll(cx));
                // h2 uses the code of the first HTTP/2 error among the sources of this
                // error.
                return this.over(Some(Err(reset.into())));
            }
            State::Trailers(trailers) => std::mem::take(trailers),
            State::Open(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_trailers() {
                    Ok(trailers) => trailers,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return this.over(end),
            },
        };
        let is_ok = trailers.get("grpc-status").is_some_and(|code| code == "0");
        if let Some(reason) = this.plan.reset.filter(|_| is_ok) {
            let (sender, written) = oneshot::channel();
            this.state = State::Resetting(reason, written);
            let mark = Bytes::from_owner(Mark { _written: sender });
            return Poll::Ready(Some(Ok(Frame::data(mark))));
        }
        if let Some(status) = this.plan.status.as_ref().filter(|_| is_ok) {
            status.add_header(&mut trailers)?;
        }
        add(&mut trailers, &this.plan.trailing);
        this.over(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over)
    }
}

//! Keeps the deadline of a call to the last trailer.
//!
//! What tonic does of itself with `grpc-timeout` ends with the response's head,
//! so it never ends a server stream, and answers CANCELLED. Here a call of any
//! mode ends with DEADLINE_EXCEEDED. A unary call whose client has sent none
//! gets one; a stream without one may go on.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use grpc_wire::{
    Mode,
    timeout::{self, GRPC_TIMEOUT},
};
use tokio::time::sleep_until;
use tower::{Layer, Service};

use super::{
    call::Call,
    ending::{Request, Response, ResponseFuture, until},
};
use crate::error::{bad_timeout, deadline_exceeded};

#[derive(Clone)]
pub(crate) struct Deadline {
    /// Of a unary call whose client has sent none.
    pub(crate) unary: Duration,
}

#[derive(Clone)]
pub(crate) struct DeadlineService<S> {
    layer: Deadline,
    inner: S,
}

impl<S> Layer<S> for Deadline {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { layer: self.clone(), inner }
    }
}

impl<S> Service<Request> for DeadlineService<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(call) = Call::of(&request) else { return Box::pin(self.inner.call(request)) };
        let given = match request.headers().get(&GRPC_TIMEOUT).map(timeout::parse) {
            Some(None) => return Box::pin(std::future::ready(Ok(bad_timeout().into_http()))),
            given => given.flatten(),
        };
        let mode = call.mode;
        let by_default = (mode == Some(Mode::Unary)).then_some(self.layer.unary);
        let Some(timeout) = given.or(by_default) else {
            return Box::pin(self.inner.call(request));
        };
        // Tonic's own timer begins later, and is asked after this one.
        let timer = sleep_until(call.begun + timeout);
        let many = mode.is_some_and(Mode::has_many_responses);
        until(&mut self.inner, request, many, async move {
            timer.await;
            deadline_exceeded(timeout)
        })
    }
}

//! Keeps the deadline of a call to the last trailer.
//!
//! What tonic does of itself with `grpc-timeout` ends with the response's head,
//! so it never ends a server stream, and answers CANCELLED. Here a call of any
//! mode ends with DEADLINE_EXCEEDED. A unary call whose client has sent none
//! gets one; a stream without one may go on.

use std::{convert::Infallible, time::Duration};

use grpc_wire::{
    Mode,
    timeout::{self, GRPC_TIMEOUT},
};
use tokio::time::sleep_until;
use tower::Service;

use super::{
    around::{Around, Request, Response, ResponseFuture, refuse},
    call::Call,
    ending::until,
};
use crate::status::{bad_timeout, deadline_exceeded};

pub(super) struct Deadline {
    /// Of a unary call whose client has sent none.
    pub(super) unary: Duration,
}

impl<S> Around<S> for Deadline
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Future = ResponseFuture;

    fn call(&self, request: Request, inner: &mut S) -> ResponseFuture {
        let call = match Call::of(request.extensions()) {
            Ok(call) => call,
            Err(status) => return refuse(status),
        };
        let given = match request.headers().get(&GRPC_TIMEOUT).map(timeout::parse) {
            Some(None) => return refuse(bad_timeout()),
            given => given.flatten(),
        };
        let mode = call.mode();
        let by_default = (mode == Some(Mode::Unary)).then_some(self.unary);
        let Some(timeout) = given.or(by_default) else {
            return Box::pin(inner.call(request));
        };
        // Tonic's own timer begins later, and is asked after this one.
        let timer = sleep_until(call.begun + timeout);
        let many = mode.is_some_and(Mode::has_many_responses);
        until(inner, request, many, async move {
            timer.await;
            deadline_exceeded(timeout)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::around::tests::refuses_a_call_that_was_not_begun, *};

    #[tokio::test]
    async fn a_call_that_was_not_begun_is_refused() {
        refuses_a_call_that_was_not_begun(Deadline { unary: Duration::from_secs(5) }).await;
    }
}

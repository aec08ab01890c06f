//! Keeps the deadline of a call to the last byte.
//!
//! What tonic does of itself with `grpc-timeout` ends with the response's head,
//! so it never ends a server stream, and answers CANCELLED. Here a call of any
//! mode ends with DEADLINE_EXCEEDED. A unary call whose client has sent none
//! gets one, and none has more than the server gives; a stream without one may
//! go on.

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
};
use crate::status::{bad_timeout, deadline_exceeded};

pub(super) struct Deadline {
    /// Of a unary call whose client has sent none.
    pub(super) unary: Duration,
    /// The most that a unary call gets.
    pub(super) most_unary: Duration,
}

impl<S> Around<S> for Deadline
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
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
        let timeout = match call.mode() {
            Some(Mode::Unary) => Some(given.unwrap_or(self.unary).min(self.most_unary)),
            _ => given,
        };
        if let Some(timeout) = timeout {
            let timer = sleep_until(call.begun + timeout);
            call.bounds.end.when(async move {
                timer.await;
                deadline_exceeded(timeout)
            });
        }
        inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::around::tests::refuses_a_call_that_was_not_begun, *};

    #[tokio::test]
    async fn a_call_that_was_not_begun_is_refused() {
        refuses_a_call_that_was_not_begun(Deadline {
            unary: Duration::from_secs(5),
            most_unary: Duration::MAX,
        })
        .await;
    }
}

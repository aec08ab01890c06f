//! Keeps the deadline of a call to the last byte.
//!
//! What tonic does of itself with `grpc-timeout` ends with the response's head,
//! so it never ends a server stream, and answers CANCELLED. Here a call of any
//! mode ends with DEADLINE_EXCEEDED. A unary call whose client has sent none
//! gets one, and none has more than the server gives; a stream without one may
//! go on.

use std::{convert::Infallible, sync::Arc, time::Duration};

use grpc_wire::{
    Mode,
    timeout::{self, GRPC_TIMEOUT},
};
use tokio::time::sleep_until;
use tower::Service;

use super::{
    around::{AroundCall, Request, Response, ResponseFuture, refuse},
    call::Call,
};
use crate::status::{bad_timeout, deadline_exceeded};

pub(super) struct Deadline {
    /// Of a unary call whose client has sent none.
    pub(super) unary: Duration,
    /// The most that a unary call gets.
    pub(super) most_unary: Duration,
}

impl<S> AroundCall<S> for Deadline
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
{
    fn call(&self, call: &Arc<Call>, request: Request, inner: &mut S) -> ResponseFuture {
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

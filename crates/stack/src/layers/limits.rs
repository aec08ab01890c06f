//! What one call may take: a place among the open calls, for as long as it is
//! open, and messages of a size.

use std::{convert::Infallible, sync::Arc};

use grpc_wire::Mode;
use tokio::sync::Semaphore;
use tower::Service;

use super::{
    around::{Around, Request, Response, ResponseFuture, refuse},
    call::Call,
};
use crate::{metrics::Metrics, settings, status::too_many_calls};

pub(super) struct Limits {
    places: Arc<Semaphore>,
    calls: usize,
    message: u32,
    unary_message: u32,
    metrics: Arc<Metrics>,
}

impl Limits {
    pub(super) fn new(limits: &settings::Limits, metrics: Arc<Metrics>) -> Self {
        let settings::Limits { calls, message, unary_message, .. } = *limits;
        Self { places: Arc::new(Semaphore::new(calls)), calls, message, unary_message, metrics }
    }
}

impl<S> Around<S> for Limits
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
{
    type Future = ResponseFuture;

    fn call(&self, request: Request, inner: &mut S) -> ResponseFuture {
        let call = match Call::of(request.extensions()) {
            Ok(call) => call,
            Err(status) => return refuse(status),
        };
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.metrics.refused("max_calls");
            return refuse(too_many_calls(self.calls));
        };
        let by_mode = if call.mode() == Some(Mode::Unary) { self.unary_message } else { self.message };
        call.bound(call.method.rule.max_message.unwrap_or(by_mode), place);
        inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::around::tests::refuses_a_call_that_was_not_begun, *};

    #[tokio::test]
    async fn a_call_that_was_not_begun_is_refused() {
        let limits = Limits::new(&settings::Limits::default(), Arc::default());
        refuses_a_call_that_was_not_begun(limits).await;
    }
}

//! What one call may take: a place among the open calls, for as long as it is
//! open, and messages of a size.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use grpc_wire::Mode;
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use super::{
    call::Call,
    ending::{Request, Response, ResponseFuture},
};
use crate::{config, error::too_many_calls, metrics::Metrics};

#[derive(Clone)]
pub(crate) struct Limits {
    places: Arc<Semaphore>,
    calls: usize,
    message: u32,
    command: u32,
    metrics: Arc<Metrics>,
}

impl Limits {
    pub(crate) fn new(limits: &config::Limits, metrics: Arc<Metrics>) -> Self {
        let config::Limits { calls, message, command, .. } = *limits;
        Self { places: Arc::new(Semaphore::new(calls)), calls, message, command, metrics }
    }
}

#[derive(Clone)]
pub(crate) struct LimitsService<S> {
    layer: Arc<Limits>,
    inner: S,
}

impl<S> Layer<S> for Limits {
    type Service = LimitsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LimitsService { layer: Arc::new(self.clone()), inner }
    }
}

impl<S> Service<Request> for LimitsService<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Ok(place) = self.layer.places.clone().try_acquire_owned() else {
            self.layer.metrics.refused("max_calls");
            return Box::pin(std::future::ready(Ok(too_many_calls(self.layer.calls).into_http())));
        };
        if let Some(call) = Call::of(&request) {
            // The tests of interoperability have larger ones than any command.
            let is_command =
                call.mode == Some(Mode::Unary) && !request.uri().path().starts_with("/grpc.testing.");
            let longest = if is_command { self.layer.command } else { self.layer.message };
            call.bound(longest, place);
        }
        self.inner.call(request)
    }
}

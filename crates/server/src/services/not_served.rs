//! Stands in for a service whose mode was not asked for, so that a client
//! learns more than that something is unimplemented.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use grpc_wire::Mode;
use tonic::{body::Body, server::NamedService};
use tower::Service;

use crate::refused::mode_not_served;

/// Answers every method of the service `S` with UNIMPLEMENTED.
pub(crate) struct NotServed<S> {
    mode: Mode,
    served: Arc<[Mode]>,
    service: PhantomData<fn() -> S>,
}

impl<S> NotServed<S> {
    pub(crate) fn new(mode: Mode, served: &[Mode]) -> Self {
        Self { mode, served: served.into(), service: PhantomData }
    }
}

impl<S> Clone for NotServed<S> {
    fn clone(&self) -> Self {
        Self { served: self.served.clone(), ..*self }
    }
}

impl<S: NamedService> NamedService for NotServed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for NotServed<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        ready(Ok(mode_not_served(self.mode, &self.served).into_http()))
    }
}

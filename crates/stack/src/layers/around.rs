//! What the layers have in common: each is one function around what is further in.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::call::Call;

pub(super) type Request = http::Request<Body>;
pub(super) type Response = http::Response<Body>;
pub(super) type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// A service below generated code, such as the one that tonic generates.
pub trait HttpService:
    Service<Request, Response = Response, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<S> HttpService for S where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

/// A layer: what it does with a request, given the service further in, which is
/// ready for one.
pub(super) trait Around<S> {
    type Future: Future<Output = Result<Response, Infallible>> + Send;

    fn call(&self, request: Request, inner: &mut S) -> Self::Future;
}

/// A layer that needs to know the call.
pub(super) trait AroundCall<S> {
    fn call(&self, call: &Arc<Call>, request: Request, inner: &mut S) -> ResponseFuture;
}

/// Makes a layer of one that needs to know the call: it refuses a call that no
/// layer has begun.
pub(super) struct OfCall<L>(pub(super) L);

impl<S, L: AroundCall<S>> Around<S> for OfCall<L> {
    type Future = ResponseFuture;

    fn call(&self, request: Request, inner: &mut S) -> ResponseFuture {
        match Call::of(request.extensions()).cloned() {
            Ok(call) => self.0.call(&call, request, inner),
            Err(status) => refuse(status),
        }
    }
}

/// Answers instead of what is further in.
pub(super) fn refuse(status: Status) -> ResponseFuture {
    answer(status.into_http())
}

/// [`refuse`], by any response.
pub(super) fn answer(response: Response) -> ResponseFuture {
    Box::pin(std::future::ready(Ok(response)))
}

/// Makes a tower layer of one of ours. All connections share it.
pub(super) struct Shared<L>(Arc<L>);

impl<L> Shared<L> {
    pub(super) fn new(layer: L) -> Self {
        Self(Arc::new(layer))
    }
}

impl<L> Clone for Shared<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L, S> Layer<S> for Shared<L> {
    type Service = Layered<L, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Layered { layer: self.clone(), inner }
    }
}

/// A layer with what is further in.
pub(super) struct Layered<L, S> {
    layer: Shared<L>,
    inner: S,
}

impl<L, S: Clone> Clone for Layered<L, S> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), inner: self.inner.clone() }
    }
}

impl<L, S> Service<Request> for Layered<L, S>
where
    L: Around<S>,
    S: Service<Request, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = L::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> L::Future {
        self.layer.0.call(request, &mut self.inner)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    /// What must not be reached.
    struct Unreachable;

    impl AroundCall<()> for Unreachable {
        fn call(&self, _: &Arc<Call>, _: Request, (): &mut ()) -> ResponseFuture {
            panic!("the call was let through")
        }
    }

    #[tokio::test]
    async fn a_layer_that_needs_to_know_the_call_refuses_one_that_was_not_begun() {
        let response = OfCall(Unreachable).call(Request::new(Body::empty()), &mut ()).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::Internal, "{status}");
    }
}

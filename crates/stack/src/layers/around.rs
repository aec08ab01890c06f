//! What the layers have in common: each is one function around what is further in.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{Status, body::Body};
use tower::{Layer, Service};

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
pub(super) mod tests {
    use tonic::Code;

    use super::*;

    /// What is further in, and must not be reached.
    #[derive(Clone)]
    pub(in super::super) struct Unreachable;

    impl Service<Request> for Unreachable {
        type Response = Response;
        type Error = Infallible;
        type Future = ResponseFuture;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request) -> ResponseFuture {
            panic!("the call was let through")
        }
    }

    /// A layer that needs to know the call refuses one that no layer has begun.
    pub(in super::super) async fn refuses_a_call_that_was_not_begun(layer: impl Around<Unreachable>) {
        let response = layer.call(Request::new(Body::empty()), &mut Unreachable).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::Internal, "{status}");
    }
}

//! Ends streams when the server shuts down.
//!
//! A graceful shutdown waits for every open call, and a stream may stay open
//! for ever. So each stream ends itself with UNAVAILABLE and `RetryInfo`, which
//! tells a client to go on elsewhere. Unary calls finish.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use shared_proto::Mode;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::body::Body;
use tower::{Layer, Service};

use super::methods::Methods;
use crate::error::shutting_down;

#[derive(Clone)]
pub(crate) struct Drain {
    pub(crate) methods: Arc<Methods>,
    pub(crate) shutdown: CancellationToken,
}

#[derive(Clone)]
pub(crate) struct DrainService<S> {
    layer: Drain,
    inner: S,
}

impl<S> Layer<S> for Drain {
    type Service = DrainService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DrainService { layer: self.clone(), inner }
    }
}

type Response = http::Response<Body>;
type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl<S> Service<http::Request<Body>> for DrainService<S>
where
    S: Service<http::Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mode = self.layer.methods.mode(request.uri().path());
        if mode.is_none_or(|mode| mode == Mode::Unary) {
            return Box::pin(self.inner.call(request));
        }
        let shutdown = self.layer.shutdown.clone();
        // A handler may read the requests in a task of its own, which would hold
        // the stream open after its response has ended. They end with the
        // response, not with the shutdown: that task, once its requests fail,
        // ends the response with OK, and may be quicker than `Ending`.
        let over = CancellationToken::new();
        let end = Box::pin(over.clone().cancelled_owned());
        let over = over.drop_guard();
        let response = self.inner.call(request.map(|body| Body::new(Requests { body, end: Some(end) })));
        Box::pin(async move {
            tokio::select! {
                biased;
                response = response => {
                    let end = End::Pending(Box::pin(shutdown.cancelled_owned()));
                    response.map(|response| response.map(|body| Body::new(Ending { body, end, _over: over })))
                }
                () = shutdown.cancelled() => Ok(shutting_down().into_http()),
            }
        })
    }
}

/// A request body that fails when the response is over: its end would look as
/// if the client were done.
struct Requests {
    body: Body,
    /// `None` once it has failed.
    end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl http_body::Body for Requests {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(end) = &mut this.end else { return Poll::Ready(None) };
        if end.as_mut().poll(cx).is_ready() {
            this.end = None;
            this.body = Body::empty();
            return Poll::Ready(Some(Err(shutting_down())));
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// A response body that ends early when the server shuts down.
struct Ending {
    body: Body,
    end: End,
    /// Fails the requests when this is dropped.
    _over: DropGuard,
}

enum End {
    Pending(Pin<Box<WaitForCancellationFutureOwned>>),
    /// Shutdown has begun. What the stream had ready still went out, such as
    /// the NOT_SERVING of a health watch; nothing else does.
    Due,
    Over,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match &mut this.end {
            End::Pending(end) => {
                if end.as_mut().poll(cx).is_ready() {
                    this.end = End::Due;
                }
                let frame = Pin::new(&mut this.body).poll_frame(cx);
                if frame.is_ready() || matches!(this.end, End::Pending(_)) {
                    return frame;
                }
            }
            End::Due => {}
            End::Over => return Poll::Ready(None),
        }
        this.end = End::Over;
        // What holds the stream's resources goes now, not when the client has
        // read the trailers.
        this.body = Body::empty();
        let mut trailers = http::HeaderMap::new();
        let added = shutting_down().add_header(&mut trailers);
        Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.end, End::Over) || self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        // Nobody knows how long a stream will be that may end early.
        http_body::SizeHint::default()
    }
}

//! What one call may take: a place among the open calls, for as long as it is
//! open, and messages of a size.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use shared_proto::{Mode, frames::Frames};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{
    ending::{Request, Response, ResponseFuture},
    methods::mode,
};
use crate::{
    config,
    error::{message_too_long, too_many_calls},
    metrics::Metrics,
};

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
        let Ok(place) = self.layer.places.clone().try_acquire_owned() else {
            self.layer.metrics.refused("max_calls");
            return Box::pin(std::future::ready(Ok(too_many_calls(self.layer.calls).into_http())));
        };
        // The tests of interoperability have larger ones than any command.
        let is_command =
            mode(&request) == Some(Mode::Unary) && !request.uri().path().starts_with("/grpc.testing.");
        let most = if is_command { self.layer.command } else { self.layer.message };
        let metrics = self.layer.metrics.clone();
        let request = request.map(|body| Body::new(Sized { body, frames: Frames::default(), most, metrics }));
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            Ok(response.map(|body| Body::new(Placed { body, _place: place })))
        })
    }
}

/// A request body whose messages are no longer than `most`.
struct Sized {
    body: Body,
    frames: Frames,
    most: u32,
    metrics: Arc<Metrics>,
}

impl http_body::Body for Sized {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let (_, longest) = this.frames.begun(data);
            if longest > this.most {
                this.body = Body::empty();
                this.metrics.refused("max_message");
                return Poll::Ready(Some(Err(message_too_long(longest, this.most))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// A response body that keeps the call's place until it is dropped.
struct Placed {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for Placed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

//! Ends a call before its handler does, with a status that says why.
//!
//! Layers further out give the reasons. The status arrives as any other does:
//! instead of the response's head, or in the trailers.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use grpc_wire::Mode;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};
use tower::Service;

use super::{
    around::{AroundCall, Request, Response, ResponseFuture},
    call::Call,
};
use crate::bounds::Bounds;

pub(super) struct Ending;

impl<S> AroundCall<S> for Ending
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    fn call(&self, call: &Arc<Call>, request: Request, inner: &mut S) -> ResponseFuture {
        let call = call.clone();
        let response = inner.call(request);
        Box::pin(async move {
            let mut response = pin!(response);
            let response = poll_fn(|cx| match response.as_mut().poll(cx) {
                Poll::Pending => match call.bounds.end.take_status() {
                    Some(status) => Poll::Ready(Ok(status.into_http())),
                    None => Poll::Pending,
                },
                response => response,
            });
            let response = response.await?;
            let many = call.mode().is_some_and(Mode::has_many_responses);
            Ok(response.map(|body| Body::new(Ended { body, call, many, last: false, over: false })))
        })
    }
}

/// A response body that may end early.
struct Ended {
    body: Body,
    call: Arc<Call>,
    /// Whether there may be more than one response.
    many: bool,
    /// There is a reason, and what the stream had ready still went out, such as the
    /// NOT_SERVING of a health watch; nothing else does.
    last: bool,
    over: bool,
}

impl http_body::Body for Ended {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        let sent = match &frame {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        let Bounds { end, held } = &*this.call.bounds;
        let status = match held.take_passing(sent) {
            Err(status) => {
                this.call.refused("max_buffered");
                status
            }
            // A single response is on its way as a whole.
            Ok(()) if !this.many || !end.is_due() => return frame,
            Ok(()) if frame.is_ready() && !this.last => {
                this.last = true;
                return frame;
            }
            Ok(()) => match end.take_status() {
                Some(status) => status,
                None => return frame,
            },
        };
        this.over = true;
        // What holds the stream's resources goes now, not when the client has
        // read the trailers.
        this.body = Body::empty();
        let mut trailers = HeaderMap::new();
        let added = status.add_header(&mut trailers);
        Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Nobody knows how long a stream will be that may end early.
        SizeHint::default()
    }
}

//! Ends a call before its handler does, with a status that says why.
//!
//! Used by the layers that have a reason to. The status arrives as any other
//! does: instead of the response's head, or in the trailers.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use tonic::{Status, body::Body};
use tower::Service;

use super::around::{Request, Response, ResponseFuture};

/// Calls `inner`, and ends the call when `end` has a reason. With `many` there
/// may be more than one response; a single one is complete with its head.
pub(super) fn until<S>(
    inner: &mut S,
    request: Request,
    many: bool,
    end: impl Future<Output = Status> + Send + 'static,
) -> ResponseFuture
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    let response = inner.call(request);
    if !many {
        return Box::pin(async move {
            tokio::select! {
                biased;
                response = response => response,
                status = end => Ok(status.into_http()),
            }
        });
    }
    let mut end: Pin<Box<dyn Future<Output = Status> + Send>> = Box::pin(end);
    Box::pin(async move {
        tokio::select! {
            biased;
            response = response => response.map(|response| {
                response.map(|body| Body::new(Ending { body, unasked: 0, end: End::Pending(end) }))
            }),
            status = &mut end => Ok(status.into_http()),
        }
    })
}

/// A response body that may end early.
struct Ending {
    body: Body,
    /// Frames that went out since the reason was last asked for.
    unasked: u8,
    end: End,
}

/// So many frames that are ready go out without a look at the reason: a look
/// asks several timers.
const UNASKED: u8 = 16;

enum End {
    Pending(Pin<Box<dyn Future<Output = Status> + Send>>),
    /// There is a reason. What the stream had ready still went out, such as the
    /// NOT_SERVING of a health watch; nothing else does.
    Due(Status),
    Over,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let End::Pending(end) = &mut this.end {
            let frame = Pin::new(&mut this.body).poll_frame(cx);
            if frame.is_ready() && this.unasked < UNASKED {
                this.unasked += 1;
                return frame;
            }
            this.unasked = 0;
            match end.as_mut().poll(cx) {
                Poll::Ready(status) => this.end = End::Due(status),
                Poll::Pending => return frame,
            }
            if frame.is_ready() {
                return frame;
            }
        }
        let End::Due(status) = std::mem::replace(&mut this.end, End::Over) else { return Poll::Ready(None) };
        // What holds the stream's resources goes now, not when the client has
        // read the trailers.
        this.body = Body::empty();
        let mut trailers = http::HeaderMap::new();
        let added = status.add_header(&mut trailers);
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

//! Ends a call before its handler does, with a status that says why.
//!
//! Used by the layers that have a reason to. The status arrives as any other
//! does: instead of the response's head, or in the trailers.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};
use tower::Service;

pub(super) type Request = http::Request<Body>;
pub(super) type Response = http::Response<Body>;
pub(super) type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Whether something moves on a call: told by every frame, in either direction.
///
/// In the extensions of a stream's request, for a handler that is silent because
/// the client wants it so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moved(Arc<Motion>);

#[derive(Debug, Default)]
struct Motion {
    frame: AtomicBool,
    excuses: AtomicU32,
}

impl Moved {
    fn frame(&self) {
        self.0.frame.store(true, Relaxed);
    }

    /// Whether anything did since the last time, or need not.
    pub(super) fn since(&self) -> bool {
        self.0.frame.swap(false, Relaxed) || self.0.excuses.load(Relaxed) > 0
    }

    /// Until what it returns is dropped, nothing need move.
    pub(crate) fn excuse(&self) -> Excuse {
        self.0.excuses.fetch_add(1, Relaxed);
        Excuse(self.clone())
    }
}

/// From [`Moved::excuse`].
#[derive(Debug)]
pub(crate) struct Excuse(Moved);

impl Drop for Excuse {
    fn drop(&mut self) {
        self.0.0.excuses.fetch_sub(1, Relaxed);
    }
}

/// Calls `inner`, and ends the call when `end` has a reason.
pub(super) fn until<S>(
    inner: &mut S,
    request: Request,
    moved: Moved,
    end: impl Future<Output = Status> + Send + 'static,
) -> ResponseFuture
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    // A handler may read the requests in a task of its own, which would hold
    // the stream open after its response has ended. They end with the
    // response, not with the reason: that task, once its requests fail, ends
    // the response with OK, and may be quicker than `Ending`.
    let over = CancellationToken::new();
    let requests_end = Box::pin(over.clone().cancelled_owned());
    let over = over.drop_guard();
    let seen = moved.clone();
    let request = request.map(|body| Body::new(Requests { body, moved: seen, end: Some(requests_end) }));
    let response = inner.call(request);
    let mut end: Pin<Box<dyn Future<Output = Status> + Send>> = Box::pin(end);
    Box::pin(async move {
        tokio::select! {
            biased;
            response = response => response.map(|response| {
                response.map(|body| Body::new(Ending { body, moved, end: End::Pending(end), _over: over }))
            }),
            status = &mut end => Ok(status.into_http()),
        }
    })
}

/// A request body that fails when the response is over: its end would look as
/// if the client were done.
struct Requests {
    body: Body,
    moved: Moved,
    /// `None` once it has failed.
    end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl http_body::Body for Requests {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(end) = &mut this.end else { return Poll::Ready(None) };
        if end.as_mut().poll(cx).is_ready() {
            this.end = None;
            this.body = Body::empty();
            return Poll::Ready(Some(Err(Status::cancelled("the call is over"))));
        }
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if frame.is_ready() {
            this.moved.frame();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// A response body that may end early.
struct Ending {
    body: Body,
    moved: Moved,
    end: End,
    /// Fails the requests when this is dropped.
    _over: DropGuard,
}

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
            let end = end.as_mut().poll(cx);
            let frame = Pin::new(&mut this.body).poll_frame(cx);
            if frame.is_ready() {
                this.moved.frame();
            }
            match end {
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

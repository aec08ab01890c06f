//! Makes the bodies of compressed responses on a thread of its own: to compress
//! 16 MiB takes most of a second, and meanwhile the thread of a connection answers
//! nobody.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body as _, Frame};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// The thread, for several services.
#[derive(Debug, Clone)]
pub(super) struct Thread(Arc<Stopping>);

#[derive(Debug)]
struct Stopping(Option<Runtime>);

impl Thread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("compress").enable_all().build()?;
        Ok(Self(Arc::new(Stopping(Some(runtime)))))
    }

    /// With its compressed responses made there.
    pub(super) fn makes<S>(&self, inner: S) -> Aside<S> {
        Aside { inner, thread: self.clone() }
    }

    fn make(&self, mut body: Body) -> Body {
        let Some(runtime) = &self.0.0 else { return body };
        let (made, frames) = mpsc::channel(1);
        let making = runtime.spawn(async move {
            while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                if made.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Body::new(Made { frames, _making: AbortOnDropHandle::new(making) })
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        // Not by dropping it, which may not be done where others are served.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A service whose compressed responses are made elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Aside<S> {
    inner: S,
    thread: Thread,
}

impl<S: NamedService> NamedService for Aside<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Aside<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (thread, response) = (self.thread.clone(), self.inner.call(request));
        Box::pin(async move {
            let response = response.await?;
            let is_compressed = response.headers().contains_key(&GRPC_ENCODING);
            Ok(if is_compressed { response.map(|body| thread.make(body)) } else { response })
        })
    }
}

struct Made {
    frames: mpsc::Receiver<Result<Frame<Bytes>, Status>>,
    /// Ends with the call.
    _making: AbortOnDropHandle<()>,
}

impl http_body::Body for Made {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(ready!(self.frames.poll_recv(cx)))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Has one frame: the name of the thread that made it.
    struct Named(bool);

    impl http_body::Body for Named {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            let name = thread::current().name().unwrap_or_default().to_owned();
            Poll::Ready(std::mem::take(&mut self.0).then(|| Ok(Frame::data(name.into()))))
        }
    }

    async fn made_by(encoding: Option<&'static str>) -> String {
        let service = tower::service_fn(move |_: http::Request<Body>| async move {
            let mut response = http::Response::new(Body::new(Named(true)));
            if let Some(encoding) = encoding {
                response.headers_mut().insert(GRPC_ENCODING, encoding.parse().unwrap());
            }
            Ok(response)
        });
        let mut service = Thread::start().unwrap().makes(service);
        let mut body = service.call(http::Request::new(Body::empty())).await.unwrap().into_body();
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        assert!(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_none());
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_is_compressed_is_made_elsewhere_and_nothing_else() {
        let here = thread::current().name().unwrap_or_default().to_owned();
        assert_eq!(made_by(None).await, here);
        assert_eq!(made_by(Some("gzip")).await, "compress");
    }
}

//! The channel that generated clients use.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use grpc_wire::body::{Observer, Seen, observe};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, body::Body, transport};
use tower::Service;

use crate::{
    OutgoingMetadata,
    answer::{NoAnswer, Wanted, checked, settled},
    deadline::Deadline,
};

/// A connection to one server. Every call carries the client's identity.
///
/// If the request's extensions contain the [`Mode`](crate::Mode) of its method, a call ends
/// with UNIMPLEMENTED when the server does not send exactly one response to a unary or
/// client-streaming call. tonic alone takes the first of several responses, and says
/// INTERNAL when there is none.
#[derive(Debug, Clone)]
pub struct Channel {
    pub(crate) inner: transport::Channel,
    pub(crate) metadata: Arc<OutgoingMetadata>,
}

/// How long a call may stand still before it counts as lost. A proxy may keep the
/// connection alive when the server behind it is gone. For the extensions of a request.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// From the last progress of the request to the headers of the response.
    pub head: Duration,
    /// From there to the first frame, and between frames.
    pub frame: Duration,
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.inner, cx).map_err(broken)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        self.metadata.identify(&mut request);
        let deadline = Deadline::of(request.headers());
        let wanted = Wanted::of(&request);
        let watched = request
            .extensions_mut()
            .remove::<Silence>()
            .map(|silence| (silence, Taken(Arc::new(Mutex::new(Instant::now())))));
        if let Some((_, taken)) = &watched {
            request = request.map(|body| observe(body, taken.clone()));
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = deadline.head(async { Ok(settled(answer.await.map_err(broken)?).await) });
            let (answer, silence) = match watched {
                None => (answer.await?, None),
                Some((silence, taken)) => (taken.wait(answer, silence.head).await?, Some(silence.frame)),
            };
            Ok(checked(answer, wanted, silence).map(|body| deadline.body(body)))
        })
    }
}

fn broken(error: transport::Error) -> Status {
    Status::from_error(Box::new(error))
}

/// When the transport last took a part of the request.
#[derive(Clone)]
struct Taken(Arc<Mutex<Instant>>);

impl Taken {
    /// Waits for an answer until nothing of the request has been taken for `silence`.
    async fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, Status>>,
        silence: Duration,
    ) -> Result<T, Status> {
        let mut answer = pin!(answer);
        loop {
            let last = *lock(&self.0);
            match timeout_at(last + silence, &mut answer).await {
                Ok(answer) => return answer,
                Err(_) if *lock(&self.0) > last => {}
                Err(_) => return Err(NoAnswer::Silent(silence).into()),
            }
        }
    }
}

impl Observer for Taken {
    fn see(&mut self, _: Seen<'_>, _: &Body) {
        *lock(&self.0) = Instant::now();
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use hyper_util::rt::TokioIo;
    use tokio::{io::DuplexStream, time::sleep};
    use tonic::{Code, transport::Endpoint};
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::CallError;

    const SILENCE: Silence = Silence { head: Duration::from_secs(15), frame: Duration::from_secs(60) };
    const PIECE: Duration = Duration::from_secs(10);

    /// A server that reads requests and never answers.
    async fn reads_and_says_nothing(client: DuplexStream) {
        let mut connection = h2::server::handshake(client).await.unwrap();
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(async move {
                let mut body = request.into_body();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                }
                std::future::pending::<()>().await;
                drop(respond);
            });
        }
    }

    /// How long it takes until a call is lost whose request is sent in this many
    /// pieces.
    async fn lost_after(pieces: usize) -> Duration {
        let (near, far) = tokio::io::duplex(1 << 20);
        tokio::spawn(reads_and_says_nothing(far));
        let mut near = Some(TokioIo::new(near));
        let connect = service_fn(move |_| std::future::ready(Ok::<_, Infallible>(near.take().unwrap())));
        let inner = Endpoint::from_static("http://there").connect_with_connector(connect).await.unwrap();
        let channel = Channel { inner, metadata: Arc::default() };

        let body = Body::new(StreamBody::new(sent(pieces)));
        let mut request = http::Request::post("http://there/a.B/C").body(body).unwrap();
        request.extensions_mut().insert(SILENCE);
        let begun = Instant::now();
        let error = CallError::from(channel.oneshot(request).await.map(|_| ()).unwrap_err());
        assert_eq!((error.code(), error.message.as_str()), (Code::Unavailable, "nothing has come for 15s"));
        assert!(error.may_be_tried_again());
        begun.elapsed()
    }

    fn sent(pieces: usize) -> impl tokio_stream::Stream<Item = Result<Frame<Bytes>, Status>> {
        let (put, taken) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            for _ in 0..pieces {
                sleep(PIECE).await;
                put.send(Ok(Frame::data(Bytes::from_static(b"piece")))).await.unwrap();
            }
        });
        tokio_stream::wrappers::ReceiverStream::new(taken)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_lost_when_nothing_has_passed_for_a_while_and_there_is_no_answer() {
        assert_eq!(lost_after(0).await.as_secs(), 15);
        assert_eq!(lost_after(4).await.as_secs(), 4 * 10 + 15);
    }
}

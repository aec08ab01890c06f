//! Looks at what passes on a channel: the headers, message frames and trailers that
//! the code above hands to the transport and gets from it, so that this code stays
//! as it would be anywhere else. When a frame of HTTP/2 has them, and whether the
//! peer has got them, is not to be seen here.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use grpc_wire::{
    body::{Observer, Seen, observe},
    frames::{Frames, Part},
};
use http::{HeaderMap, StatusCode, Uri};
use http_body::Body as _;
use prost_reflect::MessageDescriptor;
use tonic::{Status, body::Body, transport::Channel};
use tower::Service;

use crate::{Kind, Message, Side, Timeline};

/// A channel whose calls are on the timeline.
#[derive(Debug, Clone)]
pub struct Tap<C = Channel> {
    channel: C,
    timeline: Timeline,
    /// What goes along with every call.
    metadata: HeaderMap,
    client: Arc<str>,
    /// Where there are several.
    server: Option<Uri>,
    answer: Answer,
}

/// Whether an answer has begun, by which a call is the server's alone. A status
/// without anything before it is none.
#[derive(Debug, Clone, Default)]
pub struct Answer(Arc<AtomicBool>);

impl Answer {
    /// Whether it has.
    pub fn has_begun(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Whether a server answers: any other HTTP status comes from something in
    /// between.
    fn see(&self, response: &http::Response<Body>) -> bool {
        let is_ended = response.headers().contains_key(Status::GRPC_STATUS);
        let is_ok = response.status() == StatusCode::OK;
        self.0.fetch_or(is_ok && !is_ended, Relaxed);
        is_ok || is_ended
    }
}

impl<C> Tap<C> {
    /// Puts the calls on a channel on a timeline, under the name of a client, and of
    /// a server where there are several. `metadata` goes along with each.
    pub fn new(
        channel: C,
        timeline: Timeline,
        metadata: HeaderMap,
        client: &str,
        server: Option<Uri>,
    ) -> Self {
        Self { channel, timeline, metadata, client: client.into(), server, answer: Answer::default() }
    }

    /// To the calls that are made by this.
    pub fn answer(&self) -> Answer {
        self.answer.clone()
    }
}

impl<C> Service<http::Request<Body>> for Tap<C>
where
    C: Service<http::Request<Body>, Response = http::Response<Body>>,
    C::Error: Error + 'static,
    C::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let (timeline, answer) = (self.timeline.clone(), self.answer.clone());
        timeline.note_call();
        request.headers_mut().extend(self.metadata.clone());
        if !timeline.is_drawn() {
            let response = self.channel.call(request);
            return Box::pin(async move {
                let response = response.await?;
                if answer.see(&response) {
                    timeline.note_answer();
                }
                Ok(response)
            });
        }
        let path = request.uri().path();
        let method = timeline.method(path);
        let call = Call { timeline, client: self.client.clone(), ended: Arc::default() };
        call.record(Kind::Request { path, metadata: request.headers(), server: self.server.as_ref() });
        let encoding = encoding(request.headers());
        let request = request.map(|body| {
            let input = method.as_ref().map(|method| method.input());
            let messages = Messages::new(Side::Client, input, encoding);
            observe(body, Requests { messages, call: call.clone(), half_closed: false })
        });
        let open = OpenCall { call };
        let response = self.channel.call(request);
        Box::pin(async move {
            match response.await {
                Ok(response) => {
                    if answer.see(&response) {
                        open.call.timeline.note_answer();
                    }
                    Ok(open.answered(response, method.map(|method| method.output())))
                }
                Err(error) => {
                    open.broke(&error);
                    Err(error)
                }
            }
        })
    }
}

/// Where the events of one call go.
#[derive(Clone)]
struct Call {
    timeline: Timeline,
    client: Arc<str>,
    /// Held while an event is recorded: the two directions pass on tasks of their
    /// own, and what still comes out of one after the end never got to the peer.
    ended: Arc<Mutex<bool>>,
}

impl Call {
    fn record(&self, kind: Kind<'_>) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ended {
            *ended = matches!(kind, Kind::Trailers { .. } | Kind::Cancel | Kind::Broken { .. });
            self.timeline.record(&self.client, kind);
        }
    }
}

/// Dropped before the end of its call, it is a call that the client gave up.
struct OpenCall {
    call: Call,
}

impl OpenCall {
    fn answered(
        self,
        response: http::Response<Body>,
        output: Option<MessageDescriptor>,
    ) -> http::Response<Body> {
        let metadata = response.headers();
        // An error may come without headers of its own: "trailers only".
        match Status::from_header_map(metadata) {
            Some(status) => self.call.record(Kind::Trailers { status: &status, only: true, metadata }),
            None => self.call.record(Kind::Response { http: response.status(), metadata }),
        }
        let messages = Messages::new(Side::Server, output, encoding(metadata));
        response.map(|body| observe(body, Responses { messages, open: self }))
    }

    fn broke(&self, error: &(dyn Error + 'static)) {
        match self.call.timeline.explain(error) {
            Some(reason) => self.call.record(Kind::Broken { reason: &reason }),
            None => self.call.record(Kind::Cancel),
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.call.record(Kind::Cancel);
    }
}

/// How a side compresses, if it does.
pub fn encoding(metadata: &HeaderMap) -> String {
    let encoding = metadata.get("grpc-encoding").and_then(|encoding| encoding.to_str().ok());
    encoding.unwrap_or_default().to_owned()
}

/// Puts the messages of one side together from the chunks of a body.
struct Messages {
    from: Side,
    descriptor: Option<MessageDescriptor>,
    frames: Frames,
    number: u64,
    /// How those are compressed that say so.
    encoding: String,
    compressed: bool,
    bytes: Vec<u8>,
}

impl Messages {
    fn new(from: Side, descriptor: Option<MessageDescriptor>, encoding: String) -> Self {
        let (frames, bytes) = (Frames::default(), Vec::new());
        Self { from, descriptor, frames, number: 0, encoding, compressed: false, bytes }
    }

    fn pass(&mut self, chunk: &[u8], call: &Call) {
        let Self { from, descriptor, frames, number, encoding, compressed, bytes } = self;
        frames.feed(chunk, |part| match part {
            Part::Begin { flag, .. } => {
                *compressed = flag != 0;
                bytes.clear();
            }
            Part::Data(data) => bytes.extend_from_slice(data),
            Part::End => {
                *number += 1;
                let message = Message {
                    bytes: bytes.as_slice(),
                    encoding: compressed.then_some(encoding),
                    descriptor: descriptor.as_ref(),
                };
                call.record(Kind::Message { from: *from, number: *number, message });
            }
        });
    }
}

/// Sees what the client sends. Its end is the half-close.
struct Requests {
    messages: Messages,
    call: Call,
    half_closed: bool,
}

impl Observer for Requests {
    fn see(&mut self, seen: Seen<'_>, body: &Body) {
        if let Seen::Data(data) = seen {
            self.messages.pass(data, &self.call);
        }
        // A transport may put the end on the last frame and never ask again.
        let ended = matches!(seen, Seen::End) || body.is_end_stream();
        if ended && !std::mem::replace(&mut self.half_closed, true) {
            self.call.record(Kind::HalfClose);
        }
    }
}

/// Sees what the server sends.
struct Responses {
    messages: Messages,
    open: OpenCall,
}

impl Observer for Responses {
    fn see(&mut self, seen: Seen<'_>, _: &Body) {
        match seen {
            Seen::Data(data) => self.messages.pass(data, &self.open.call),
            Seen::Trailers(trailers) => {
                if let Some(status) = Status::from_header_map(trailers) {
                    self.open.call.record(Kind::Trailers {
                        status: &status,
                        only: false,
                        metadata: trailers,
                    });
                }
            }
            Seen::Error(status) => self.open.broke(status),
            Seen::End => self.open.broke(&Status::internal("the stream ended without a status")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io, pin::pin, task::Waker};

    use indicatif::ProgressBar;
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::Json;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The types of the events of a call that is answered with this, and of which the
    /// transport asks for the end of the request when its answer is gone.
    async fn events_of(answer: http::Response<Body>) -> Vec<String> {
        let out = Out::default();
        let json = Json::new(out.clone(), false);
        let pool = Some(shared_proto::POOL.clone());
        let explain = |error: &(dyn Error + 'static)| Some(error.to_string());
        let timeline = Timeline::new(vec![Box::new(json)], pool, explain, ProgressBar::hidden());
        let (kept, mut answer) = (Arc::new(Mutex::new(None)), Some(answer));
        let channel = service_fn(|request: http::Request<Body>| {
            *kept.lock().unwrap() = Some(request.into_body());
            std::future::ready(Ok::<_, Infallible>(answer.take().unwrap()))
        });
        let tap = Tap::new(channel, timeline, HeaderMap::new(), "client", None);
        drop(tap.oneshot(http::Request::new(Body::empty())).await.unwrap());
        let mut request = kept.lock().unwrap().take().unwrap();
        let frame = pin!(&mut request).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(frame, Poll::Ready(None)));
        let lines = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let events = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn nothing_of_a_call_is_shown_after_its_end() {
        let answer = http::Response::new(Body::empty());
        assert_eq!(events_of(answer).await, ["headers", "headers", "cancel"]);
        let mut answer = http::Response::new(Body::empty());
        answer.headers_mut().insert(Status::GRPC_STATUS, http::HeaderValue::from_static("5"));
        assert_eq!(events_of(answer).await, ["headers", "trailers"]);
    }
}

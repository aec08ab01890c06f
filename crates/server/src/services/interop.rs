//! `grpc.testing.TestService`: what the clients of gRPC's interoperability tests
//! call.
//!
//! They look at single messages: whether one was compressed, and whether an
//! answer is. tonic knows that of whole calls only, so it is [`Exchanged`], below
//! it, that sees and does it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::Write as _,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut, buf::Writer};
use flate2::{Compression, write::GzEncoder};
use grpc_wire::{
    body::{Observer, Seen, observe},
    frames::{Frames, Part},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use shared_proto::testing::{
    BoolValue, EchoStatus, Empty, Payload, ResponseParameters, SimpleRequest, SimpleResponse,
    StreamingInputCallRequest, StreamingInputCallResponse, StreamingOutputCallRequest,
    StreamingOutputCallResponse,
    test_service_server::{TestService, TestServiceServer},
};
use stack::Call;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Code, Request, Response, Status, Streaming, body::Body, codec::CompressionEncoding, server::NamedService,
};
use tower::Service;

use crate::refused::bad_request;

const ECHO_INITIAL: HeaderName = HeaderName::from_static("x-grpc-test-echo-initial");
const ECHO_TRAILING: HeaderName = HeaderName::from_static("x-grpc-test-echo-trailing-bin");

/// The largest payload of a response, in bytes.
const LARGEST: i32 = 16 << 20;

/// How many responses `HalfDuplexCall` takes requests for: they are kept until
/// the client has ended its half.
const KEPT: usize = 1 << 16;

/// The service, to be added to the routes. `largest` bounds its requests, also
/// once they are unpacked.
pub(crate) fn service(instance_id: Arc<str>, largest: u32) -> Exchanged<TestServiceServer<Interop>> {
    let inner = TestServiceServer::new(Interop { instance_id })
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(largest as usize);
    Exchanged { inner }
}

#[derive(Debug)]
pub(crate) struct Interop {
    instance_id: Arc<str>,
}

type Outputs = Pin<Box<dyn Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send>>;

#[tonic::async_trait]
impl TestService for Interop {
    async fn empty_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }

    async fn unary_call(&self, request: Request<SimpleRequest>) -> Result<Response<SimpleResponse>, Status> {
        let call = OnCall::of(&request);
        let request = request.into_inner();
        call.arrived(request.expect_compressed)?;
        wanted(request.response_status)?;
        let payload = Some(payload(request.response_size, "response_size")?);
        let server_id = if request.fill_server_id { self.instance_id.to_string() } else { String::new() };
        call.leaves(request.response_compressed);
        Ok(Response::new(SimpleResponse { payload, server_id, ..SimpleResponse::default() }))
    }

    async fn cacheable_unary_call(
        &self,
        request: Request<SimpleRequest>,
    ) -> Result<Response<SimpleResponse>, Status> {
        self.unary_call(request).await
    }

    type StreamingOutputCallStream = Outputs;

    async fn streaming_output_call(
        &self,
        request: Request<StreamingOutputCallRequest>,
    ) -> Result<Response<Outputs>, Status> {
        let call = OnCall::of(&request);
        Ok(Response::new(Box::pin(outputs(call, tokio_stream::once(Ok(request.into_inner()))))))
    }

    async fn streaming_input_call(
        &self,
        request: Request<Streaming<StreamingInputCallRequest>>,
    ) -> Result<Response<StreamingInputCallResponse>, Status> {
        let call = OnCall::of(&request);
        let mut requests = request.into_inner();
        let mut sum = 0_i32;
        while let Some(StreamingInputCallRequest { payload, expect_compressed }) = requests.message().await? {
            call.arrived(expect_compressed)?;
            let length = payload.map(|payload| payload.body.len()).unwrap_or_default();
            sum = sum.saturating_add(i32::try_from(length).unwrap_or(i32::MAX));
        }
        Ok(Response::new(StreamingInputCallResponse { aggregated_payload_size: sum }))
    }

    type FullDuplexCallStream = Outputs;

    async fn full_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Outputs>, Status> {
        let call = OnCall::of(&request);
        Ok(Response::new(Box::pin(outputs(call, request.into_inner()))))
    }

    type HalfDuplexCallStream = Outputs;

    async fn half_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Outputs>, Status> {
        let call = OnCall::of(&request);
        let mut requests = request.into_inner();
        let taken = call.clone();
        let collected = async_stream::try_stream! {
            let mut all = StreamingOutputCallRequest::default();
            while let Some(mut request) = requests.message().await? {
                taken.arrived(None)?;
                wanted(request.response_status.take())?;
                all.response_parameters.append(&mut request.response_parameters);
                if all.response_parameters.len() > KEPT {
                    let message = format!("more than {KEPT} responses requested in one call");
                    Err(bad_request("response_parameters", message))?;
                }
            }
            yield all;
        };
        Ok(Response::new(Box::pin(outputs(call, collected))))
    }

    async fn unimplemented_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented("this method is unimplemented on purpose"))
    }
}

/// What each request asks for, when it comes.
fn outputs(
    call: OnCall,
    requests: impl Stream<Item = Result<StreamingOutputCallRequest, Status>> + Send,
) -> impl Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send {
    async_stream::try_stream! {
        tokio::pin!(requests);
        while let Some(request) = requests.next().await {
            let request = request?;
            call.arrived(None)?;
            wanted(request.response_status)?;
            for ResponseParameters { size, interval_us, compressed } in request.response_parameters {
                let payload = Some(payload(size, "response_parameters.size")?);
                let interval = u64::try_from(interval_us);
                let interval = interval.map_err(|_| negative("response_parameters.interval_us"))?;
                call.pause(Duration::from_micros(interval)).await;
                call.leaves(compressed);
                yield StreamingOutputCallResponse { payload };
            }
        }
    }
}

fn payload(size: i32, field: &str) -> Result<Payload, Status> {
    match size {
        0..=LARGEST => Ok(Payload { body: vec![0; size as usize].into(), ..Payload::default() }),
        ..0 => Err(negative(field)),
        _ => Err(bad_request(field, format!("{field} is more than 16 MiB"))),
    }
}

fn negative(field: &str) -> Status {
    bad_request(field, format!("{field} is negative"))
}

/// Fails with the status that the client wants to see.
fn wanted(status: Option<EchoStatus>) -> Result<(), Status> {
    match status {
        Some(EchoStatus { code, message }) if code != 0 => Err(Status::new(Code::from_i32(code), message)),
        _ => Ok(()),
    }
}

/// What a handler and [`Exchanged`] tell each other about the messages of a call.
#[derive(Debug, Default)]
struct Messages {
    /// Of each request that has not been looked at, whether it was compressed.
    arrived: Mutex<VecDeque<bool>>,
    /// Of each response that is on its way, whether it is to be.
    leaving: Mutex<VecDeque<bool>>,
}

/// A call as its handler sees it.
#[derive(Debug, Clone)]
struct OnCall {
    messages: Arc<Messages>,
    call: Option<Arc<Call>>,
}

impl OnCall {
    fn of<T>(request: &Request<T>) -> Self {
        let extensions = request.extensions();
        let call = Call::of(extensions).ok().cloned();
        Self { messages: extensions.get().cloned().unwrap_or_default(), call }
    }

    /// A message of a kind that may say how it came.
    fn arrived(&self, expected: Option<BoolValue>) -> Result<(), Status> {
        let compressed = pop(&self.messages.arrived);
        match expected {
            Some(BoolValue { value }) if value != compressed => {
                let message = format!(
                    "expect_compressed is {value}, but the message arrived {}compressed",
                    if compressed { "" } else { "un" }
                );
                Err(bad_request("expect_compressed", message))
            }
            _ => Ok(()),
        }
    }

    fn leaves(&self, compressed: Option<BoolValue>) {
        let compressed = compressed.is_some_and(|compressed| compressed.value);
        self.messages.leaving.lock().unwrap_or_else(PoisonError::into_inner).push_back(compressed);
    }

    /// A silence that the client wants is not idle.
    async fn pause(&self, time: Duration) {
        if !time.is_zero() {
            let _silent = self.call.as_ref().map(Call::suspend_idle_timeout);
            tokio::time::sleep(time).await;
        }
    }
}

fn pop(flags: &Mutex<VecDeque<bool>>) -> bool {
    flags.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or_default()
}

/// The service with what it does to single messages, and to metadata.
#[derive(Debug, Clone)]
pub(crate) struct Exchanged<S> {
    inner: S,
}

impl<S: NamedService> NamedService for Exchanged<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Exchanged<S>
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

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let messages = Arc::<Messages>::default();
        request.extensions_mut().insert(messages.clone());
        let echo = |name: HeaderName| request.headers().get(&name).map(|value| (name, value.clone()));
        let (initial, trailing) = (echo(ECHO_INITIAL), echo(ECHO_TRAILING));
        let accepts = request.headers().get("grpc-accept-encoding").and_then(|value| value.to_str().ok());
        let packs = accepts.is_some_and(|all| all.split(',').any(|one| one.trim() == "gzip"));
        let seen = messages.clone();
        let request =
            request.map(|body| observe(body, Requests { frames: Frames::default(), messages: seen }));
        let response = self.inner.call(request);
        Box::pin(async move {
            let (mut head, body) = response.await?.into_parts();
            head.headers.extend(initial);
            if head.headers.contains_key("grpc-status") {
                head.headers.extend(trailing);
                return Ok(http::Response::from_parts(head, body));
            }
            if packs {
                head.headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
            }
            let packer = Packer { frames: Frames::default(), messages, packs, packing: None };
            let body = Body::new(Responses { body, packer, trailing });
            Ok(http::Response::from_parts(head, body))
        })
    }
}

/// Sees the messages of a request body before they are unpacked.
struct Requests {
    frames: Frames,
    messages: Arc<Messages>,
}

impl Observer for Requests {
    fn see(&mut self, seen: Seen<'_>, _: &Body) {
        if let Seen::Data(data) = seen {
            let mut arrived = self.messages.arrived.lock().unwrap_or_else(PoisonError::into_inner);
            self.frames.feed(data, |part| {
                if let Part::Begin { flag, .. } = part {
                    arrived.push_back(flag != 0);
                }
            });
        }
    }
}

/// A response body with messages that are compressed as each was asked to be,
/// and with the trailer that was.
struct Responses {
    body: Body,
    packer: Packer,
    trailing: Option<(HeaderName, HeaderValue)>,
}

impl http_body::Body for Responses {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => {
                    let packed = this.packer.pack(&data);
                    // Empty within a message that goes out when it is complete.
                    if !packed.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(packed))));
                    }
                }
                Err(frame) => {
                    let trailing = this.trailing.take();
                    let trailers = frame.into_trailers().map(|mut trailers: HeaderMap| {
                        trailers.extend(trailing);
                        Frame::trailers(trailers)
                    });
                    return Poll::Ready(Some(Ok(trailers.unwrap_or_else(|frame| frame))));
                }
            }
        }
    }
}

struct Packer {
    frames: Frames,
    messages: Arc<Messages>,
    /// Whether the client understands it.
    packs: bool,
    /// The message that is being compressed.
    packing: Option<GzEncoder<Writer<BytesMut>>>,
}

impl Packer {
    fn pack(&mut self, data: &[u8]) -> Bytes {
        let Self { frames, messages, packs, packing } = self;
        let mut all = BytesMut::new();
        frames.feed(data, |part| match (part, packing.as_mut()) {
            (Part::Begin { .. }, _) if pop(&messages.leaving) && *packs => {
                *packing = Some(GzEncoder::new(BytesMut::new().writer(), Compression::default()));
            }
            (Part::Begin { length, .. }, _) => {
                all.put_u8(0);
                all.put_u32(length);
            }
            // Memory takes everything.
            (Part::Data(data), Some(packing)) => packing.write_all(data).unwrap_or_default(),
            (Part::Data(data), None) => all.put_slice(data),
            (Part::End, _) => {
                if let Some(Ok(packed)) = packing.take().map(GzEncoder::finish) {
                    let packed = packed.into_inner();
                    all.put_u8(1);
                    all.put_u32(packed.len() as u32);
                    all.unsplit(packed);
                }
            }
        });
        all.freeze()
    }
}

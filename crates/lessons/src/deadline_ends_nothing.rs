//! A timeout that never ends a stream, and one that cuts an upload.

use std::{fmt, pin::Pin, time::Duration};

use grpc_wire::code_name;
use timeline::Diagram;
use tokio::time::{Instant, interval, timeout, timeout_at};
use tokio_stream::{Stream, StreamExt as _, wrappers::IntervalStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Server, server::Router},
};

use crate::{
    Lesson, half,
    proto::{
        FollowRequest, FollowResponse, UploadRequest, UploadResponse,
        feed_service_client::FeedServiceClient,
        feed_service_server::{FeedService, FeedServiceServer},
        upload_service_client::UploadServiceClient,
        upload_service_server::{UploadService, UploadServiceServer},
    },
    serve::serve,
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "deadline-ends-nothing",
    line: "a timeout that never ends a stream, and one that cuts an upload",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "tonic's timeouts end with the response headers. That holds for the server's timeout and for the \
          deadline that a client sends. A response stream sends its headers at once, so no timeout ends it. \
          An upload gets its headers at the end, so all of it must fit into the timeout.",
    recognise: "Streams live for days although everything has a timeout. Uploads over slow lines end with \
                CANCELLED, \"Timeout expired\", although they make progress.",
    cure: "Give each mode its own limit. End a response stream from inside, with DEADLINE_EXCEEDED. For an \
           upload, limit its size and the pause between two messages.",
    elsewhere: "A server of connectrpc 0.9 has the same trap, unless `with_enforce_on_streams` lets \
                deadlines end streams. Its client ends a stream at the deadline. The client of `grpc` 0.9 \
                ignores deadlines.",
};

/// How long anything may take.
const LIMIT: Duration = Duration::from_millis(500);
/// How long an upload may pause.
const PAUSE: Duration = Duration::from_secs(2);
/// Between two messages, either way.
const STEP: Duration = Duration::from_millis(200);
/// So many take more than twice the limit.
const MANY: u64 = 7;

fn broken_server() -> Router {
    Server::builder()
        // The trap: it is over with the head of the response.
        .timeout(LIMIT)
        .add_service(FeedServiceServer::new(Broken))
        .add_service(UploadServiceServer::new(Broken))
}

fn fixed_server() -> Router {
    Server::builder().add_service(FeedServiceServer::new(Fixed)).add_service(UploadServiceServer::new(Fixed))
}

struct Broken;

struct Fixed;

type Events = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

#[tonic::async_trait]
impl FeedService for Broken {
    type FollowStream = Events;

    async fn follow(&self, _: Request<FollowRequest>) -> Result<Response<Events>, Status> {
        Ok(Response::new(Box::pin(ticks())))
    }
}

#[tonic::async_trait]
impl FeedService for Fixed {
    type FollowStream = Events;

    async fn follow(&self, _: Request<FollowRequest>) -> Result<Response<Events>, Status> {
        let deadline = Instant::now() + LIMIT;
        let mut events = Box::pin(ticks());
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            loop {
                let event = timeout_at(deadline, events.next()).await;
                match event.map_err(|_| Status::deadline_exceeded("call again to follow on"))? {
                    Some(event) => yield event?,
                    None => return,
                }
            }
        })))
    }
}

#[tonic::async_trait]
impl UploadService for Broken {
    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let (mut chunks, mut bytes) = (request.into_inner(), 0);
        while let Some(chunk) = chunks.message().await? {
            bytes += chunk.data.len() as u64;
        }
        Ok(Response::new(UploadResponse { bytes }))
    }
}

#[tonic::async_trait]
impl UploadService for Fixed {
    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let (mut chunks, mut bytes) = (request.into_inner(), 0);
        let stalled = |_| Status::deadline_exceeded("nothing came for a while");
        while let Some(chunk) = timeout(PAUSE, chunks.message()).await.map_err(stalled)?? {
            bytes += chunk.data.len() as u64;
        }
        Ok(Response::new(UploadResponse { bytes }))
    }
}

/// What became of the two.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where a stream without an end got to: `None` if it went on for much longer
    /// than it should.
    pub stream: Option<Code>,
    /// Where an upload got to that took longer than the limit, and never paused.
    pub upload: Code,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stream {
            None => write!(f, "the stream went on for more than twice the limit;")?,
            Some(code) => write!(f, "the stream ended with {} after {LIMIT:?};", code_name(code))?,
        }
        match self.upload {
            Code::Ok => write!(f, " the upload took longer, never paused, and succeeded"),
            code => write!(f, " the upload never paused, but was cut with {}", code_name(code)),
        }
    }
}

/// With a timeout for everything.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    stream_and_upload(broken_server(), diagram).await
}

/// With limits of their own.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    stream_and_upload(fixed_server(), diagram).await
}

async fn stream_and_upload(server: Router, diagram: Diagram) -> anyhow::Result<Outcome> {
    let server = serve(server).await?;
    let channel = diagram.watch(server.connect().await?);

    let mut request = Request::new(FollowRequest::default());
    request.set_timeout(LIMIT);
    let mut events = FeedServiceClient::new(channel.clone()).follow(request).await?.into_inner();
    let stream = loop {
        match events.message().await {
            Ok(Some(event)) if event.sequence == MANY => break None,
            Ok(Some(event)) if event.sequence == MANY / 2 + 1 => {
                diagram.at_client(&format!("the limit of {LIMIT:?} is over, on both sides"));
            }
            Ok(Some(_)) => {}
            Ok(None) => break Some(Code::Ok),
            Err(status) => break Some(status.code()),
        }
    };
    drop(events);

    let chunk = |_| UploadRequest { data: b"chunk".to_vec(), finish: false };
    let chunks = IntervalStream::new(interval(STEP)).take(MANY as usize).map(chunk);
    let upload = match UploadServiceClient::new(channel).upload(chunks).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    };
    Ok(Outcome { stream, upload })
}

/// An event now and then, without end.
fn ticks() -> impl Stream<Item = Result<FollowResponse, Status>> + Send {
    let mut sequence = 0;
    IntervalStream::new(interval(STEP)).map(move |_| {
        sequence += 1;
        Ok(FollowResponse { sequence, text: String::new() })
    })
}

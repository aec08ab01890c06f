//! Many small messages, one reader that pauses, and the whole connection dies.

use std::{error::Error, fmt, pin::Pin};

use grpc_wire::code_name;
use timeline::Diagram;
use tokio::sync::{mpsc, watch};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{self, Channel, Endpoint},
};

use crate::{
    Lesson, half,
    proto::{
        FollowRequest, FollowResponse,
        feed_service_client::FeedServiceClient,
        feed_service_server::{FeedService, FeedServiceServer},
    },
    serve::serve,
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "small-messages",
    line: "one reader pauses while many small messages arrive, and the whole connection ends",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "h2, the HTTP/2 library below tonic, counts unread frames under 256 bytes. Each one costs 256 minus \
          its length, and the budget is half of the connection's window. When the budget is gone, h2 takes \
          the peer for an attacker and ends the connection with all its calls.",
    recognise: "All calls of a client fail at once with RESOURCE_EXHAUSTED, or with a GOAWAY \
                `too_many_data_frames`. It happens under load, after one call was slow.",
    cure: "Put many small values into one message. Read promptly, into a bounded queue. On both sides, make \
           the connection's window sixteen times a stream's: that is enough for one stream of frames of 29 \
           bytes or more.",
    elsewhere: "connectrpc 0.9 has the same trap: its server ends a connection when fewer than 200 messages \
                are unread, its client when 11,000 are. The client of `grpc` 0.9 has it, too.",
};

/// How many events are sent in a row, before the last one.
const MANY: u64 = 30_000;

async fn connect_broken(endpoint: Endpoint) -> Result<Channel, transport::Error> {
    // The trap: the windows are 2 MiB for a stream and 5 MiB for all of them, and
    // 11,000 small frames that wait are too many.
    endpoint.connect().await
}

async fn connect_fixed(endpoint: Endpoint) -> Result<Channel, transport::Error> {
    // A stream is full before its frames are too many, from 29 bytes a frame on.
    endpoint.initial_stream_window_size(1 << 20).initial_connection_window_size(16 << 20).connect().await
}

/// The results of two streams on one connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The stream of ana, who paused.
    pub ana: Stream,
    /// The stream of ben, who did not pause.
    pub ben: Stream,
}

/// The result of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Stream {
    /// It continued to the last event.
    Goes,
    /// It ended earlier. Contains the status code and the innermost source of the status.
    Lost(Code, String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ben {
            Stream::Lost(code, source) => {
                write!(f, "ana paused, and ben lost his stream too: {}, {source}", code_name(*code))
            }
            Stream::Goes => write!(f, "ana paused; both have all {} events", MANY + 1),
        }
    }
}

/// With the default windows of a channel.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    two_readers(connect_broken, diagram).await
}

/// With suitable windows.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    two_readers(connect_fixed, diagram).await
}

/// ana reads one event of many, and is busy with it while the others are sent.
/// ben reads all of them, and waits for the next one.
async fn two_readers(
    connect: impl AsyncFnOnce(Endpoint) -> Result<Channel, transport::Error>,
    diagram: Diagram,
) -> anyhow::Result<Outcome> {
    let (last, seen) = watch::channel(MANY);
    let (feed, mut ana_is_served) = mpsc::unbounded_channel();
    let feed = FeedServiceServer::new(Feed { last: seen, ana_is_served: feed });
    let server = serve(transport::Server::builder().add_service(feed)).await?;
    let channel = connect(server.endpoint()?).await?;
    let follow = async |name, after_sequence| {
        let mut client = FeedServiceClient::new(diagram.watch_as(name, channel.clone()));
        client.follow(FollowRequest { after_sequence }).await.map(Response::into_inner)
    };
    let mut ben = follow("ben", MANY).await?;
    let mut ana = follow("ana", 0).await?;
    ana.message().await?;
    diagram.at_client("ana: works on this event while the others wait");
    ana_is_served.recv().await;
    diagram.at_client("ana: reads again");
    last.send_replace(MANY + 1);
    Ok(Outcome { ana: rest(&mut ana).await, ben: rest(&mut ben).await })
}

async fn rest(events: &mut Streaming<FollowResponse>) -> Stream {
    loop {
        match events.message().await {
            Ok(Some(event)) if event.sequence > MANY => return Stream::Goes,
            Ok(Some(_)) => {}
            Ok(None) => return Stream::Lost(Code::Ok, String::new()),
            Err(status) => return Stream::Lost(status.code(), root_cause(&status)),
        }
    }
}

/// The innermost source of a status. tonic's own message is often only that of the
/// outermost source.
fn root_cause(status: &Status) -> String {
    let mut cause: &dyn Error = status;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A feed whose events come one at a time, so that each has a frame of its own.
struct Feed {
    last: watch::Receiver<u64>,
    ana_is_served: mpsc::UnboundedSender<()>,
}

/// Sends a signal when it is dropped.
struct Sending(mpsc::UnboundedSender<()>);

impl Drop for Sending {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tonic::async_trait]
impl FeedService for Feed {
    type FollowStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<FollowResponse, Status>> + Send>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let first = request.into_inner().after_sequence + 1;
        let mut last = self.last.clone();
        let mut sending = (first == 1).then(|| Sending(self.ana_is_served.clone()));
        Ok(Response::new(Box::pin(async_stream::stream! {
            for sequence in first.. {
                if sequence > MANY {
                    drop(sending.take());
                }
                if last.wait_for(|last| *last >= sequence).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
                yield Ok(FollowResponse { sequence, text: "the price is 123.45".to_owned() });
            }
        })))
    }
}

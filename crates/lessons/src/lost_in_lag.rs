//! A broadcast channel that skips what a slow reader missed.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};

use timeline::Diagram;
use tokio::sync::{broadcast, watch};
use tokio_stream::{Stream, StreamExt as _, wrappers::BroadcastStream};
use tonic::{Request, Response, Status, transport};

use crate::{
    Lesson, half,
    proto::{
        FollowRequest, FollowResponse,
        feed_service_client::FeedServiceClient,
        feed_service_server::{FeedService, FeedServiceServer},
    },
    serve::{Server, serve},
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "lost-in-lag",
    line: "a broadcast channel that silently skips events for slow readers",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "`tokio::sync::broadcast` keeps only the last few events, for all readers together. A slow reader \
          gets the error `Lagged` once and continues after the gap. `filter_map(Result::ok)` discards even \
          that error.",
    recognise: "Clients on slow links show other values than clients in the office. Neither side reports an \
                error. A larger channel makes it rarer, but not right.",
    cure: "Number the events and keep them in a log. Let each stream read the log with its own cursor, and \
           use the channel only as a wake-up. If a client asks for events that the log no longer has, answer \
           OUT_OF_RANGE.",
    elsewhere: "This does not depend on the stack: the channel is tokio's.",
};

type Events = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

struct Broken {
    events: broadcast::Sender<FollowResponse>,
}

#[tonic::async_trait]
impl FeedService for Broken {
    type FollowStream = Events;

    async fn follow(&self, _: Request<FollowRequest>) -> Result<Response<Events>, Status> {
        let events = BroadcastStream::new(self.events.subscribe());
        // The trap: what is not `Ok` is the number of events that were lost.
        Ok(Response::new(Box::pin(events.filter_map(Result::ok).map(Ok))))
    }
}

struct Fixed {
    log: Arc<RwLock<Vec<FollowResponse>>>,
    more: watch::Receiver<()>,
}

#[tonic::async_trait]
impl FeedService for Fixed {
    type FollowStream = Events;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Events>, Status> {
        let (log, mut more) = (self.log.clone(), self.more.clone());
        let mut sequence = request.into_inner().after_sequence as usize;
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            loop {
                let next = log.read().unwrap_or_else(PoisonError::into_inner).get(sequence).cloned();
                match next {
                    Some(event) => {
                        yield event;
                        sequence += 1;
                    }
                    // An error means that nobody publishes any more.
                    None if more.changed().await.is_err() => return,
                    None => {}
                }
            }
        })))
    }
}

/// What a client that was slow to read has got of a feed, and noticed nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many events.
    pub got: u64,
    /// How many are missing between them.
    pub lost: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lost {
            0 => write!(f, "all {EVENTS} events arrived, in order"),
            lost => write!(f, "{lost} of {EVENTS} events are lost, without any error"),
        }
    }
}

/// More than fit into the windows between server and client.
const EVENTS: u64 = 100_000;

/// Keeps 16 events, for everyone.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    let events = broadcast::Sender::new(16);
    let service = FeedServiceServer::new(Broken { events: events.clone() });
    let server = serve(transport::Server::builder().add_service(service)).await?;
    read_late(&server, diagram, move |event| {
        // An error means that nobody listens.
        let _ = events.send(event);
    })
    .await
}

/// Keeps them all; each client has its place.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    let log = Arc::new(RwLock::new(Vec::new()));
    let (wake_up, more) = watch::channel(());
    let service = FeedServiceServer::new(Fixed { log: log.clone(), more });
    let server = serve(transport::Server::builder().add_service(service)).await?;
    read_late(&server, diagram, move |event| {
        log.write().unwrap_or_else(PoisonError::into_inner).push(event);
        wake_up.send_replace(());
    })
    .await
}

/// A client that follows, and reads when everything has been published.
async fn read_late(
    server: &Server,
    diagram: Diagram,
    publish: impl Fn(FollowResponse),
) -> anyhow::Result<Outcome> {
    let mut client = FeedServiceClient::new(diagram.watch(server.connect().await?));
    let mut events = client.follow(FollowRequest::default()).await?.into_inner();
    for sequence in 1..=EVENTS {
        publish(FollowResponse { sequence, text: "something has happened in the world".to_owned() });
    }
    diagram.at_server(&format!("{EVENTS} events have been published"));
    let (mut got, mut last) = (0, 0);
    // The last one is never lost, whoever lags.
    while last < EVENTS
        && let Some(event) = events.message().await?
    {
        (got, last) = (got + 1, event.sequence);
    }
    diagram.at_client(&format!("{got} events arrived; the last one is number {last}"));
    Ok(Outcome { got, lost: EVENTS - got })
}

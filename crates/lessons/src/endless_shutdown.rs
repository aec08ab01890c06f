//! Graceful shutdown that waits for ever.

use std::{fmt, pin::Pin, time::Duration};

use timeline::Diagram;
use tokio::{
    net::TcpStream,
    time::{interval, sleep, timeout},
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status,
    transport::{self, server::TcpIncoming},
};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    Lesson, PATIENCE, half,
    proto::{
        FollowRequest, FollowResponse,
        feed_service_client::FeedServiceClient,
        feed_service_server::{FeedService, FeedServiceServer},
    },
    serve::{endpoint, listen},
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "endless-shutdown",
    line: "a graceful shutdown that never ends: it waits for an open stream, or for a silent peer",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "`serve_with_shutdown` accepts no new calls and waits until every connection has ended. An open \
          stream ends only when its handler or its client ends it. A TCP peer that never sends a byte has no \
          call that could end.",
    recognise: "A deployment hangs in `Terminating` until SIGKILL. The kill also cuts calls that would have \
                finished. It happens when watchers or idle connections are open, and never in a test.",
    cure: "Give every stream a token to watch. On shutdown, end the streams with UNAVAILABLE and RetryInfo. \
           Wait for everything else only for a time that you chose.",
    elsewhere: "connectrpc 0.9 has half of it: its shutdown waits for an open stream, but not for a silent \
                peer.",
};

const EVERY: Duration = Duration::from_millis(20);
/// How long to wait for calls and connections to end by themselves.
const GRACE: Duration = Duration::from_millis(300);

type Events = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

struct Broken;

#[tonic::async_trait]
impl FeedService for Broken {
    type FollowStream = Events;

    async fn follow(&self, _: Request<FollowRequest>) -> Result<Response<Events>, Status> {
        Ok(Response::new(Box::pin(async_stream::stream! {
            let mut ticks = interval(EVERY);
            for sequence in 1.. {
                ticks.tick().await;
                yield Ok(event(sequence));
            }
        })))
    }
}

async fn broken_server(incoming: TcpIncoming, stop: CancellationToken) -> Result<(), transport::Error> {
    let service = FeedServiceServer::new(Broken);
    let stopped = stop.cancelled_owned();
    // The trap: the feed has no end, so this has none.
    transport::Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, stopped).await
}

struct Fixed {
    stop: CancellationToken,
}

#[tonic::async_trait]
impl FeedService for Fixed {
    type FollowStream = Events;

    async fn follow(&self, _: Request<FollowRequest>) -> Result<Response<Events>, Status> {
        let stop = self.stop.clone();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            let mut ticks = interval(EVERY);
            for sequence in 1.. {
                if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                    Err(come_again())?;
                }
                yield event(sequence);
            }
        })))
    }
}

async fn fixed_server(incoming: TcpIncoming, stop: CancellationToken) -> Result<(), transport::Error> {
    let service = FeedServiceServer::new(Fixed { stop: stop.clone() });
    let stopped = stop.clone().cancelled_owned();
    let server =
        transport::Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, stopped);
    tokio::select! {
        ended = server => ended,
        () = async { stop.cancelled().await; sleep(GRACE).await } => Ok(()),
    }
}

fn come_again() -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    Status::with_error_details(Code::Unavailable, "the server stops", details)
}

/// The shutdown of a server while a client follows its feed and a silent peer
/// keeps a connection open.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the server ended.
    pub ended: bool,
    /// The code with which the feed ended, if it did.
    pub feed: Option<Code>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { ended: true, feed: Some(code) } => {
                write!(
                    f,
                    "the feed ended with {}, and the server ended within its grace period",
                    grpc_wire::code_name(*code)
                )
            }
            Self { ended, feed } => write!(
                f,
                "after the signal, the server kept its feed open{} and {} within {PATIENCE:?}: the lesson gave up",
                if feed.is_some() { " until it ended" } else { "" },
                if *ended { "ended" } else { "did not end" },
            ),
        }
    }
}

/// Waits for a stream that has no end.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    stopped(broken_server, diagram).await
}

/// Ends its streams, and waits for a bounded time.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    stopped(fixed_server, diagram).await
}

async fn stopped<S>(
    server: impl FnOnce(TcpIncoming, CancellationToken) -> S,
    diagram: Diagram,
) -> anyhow::Result<Outcome>
where
    S: Future<Output = Result<(), transport::Error>> + Send + 'static,
{
    /// This many events after the stop show that the stream did not end.
    const MORE: usize = 3;
    let (incoming, address) = listen()?;
    let stop = CancellationToken::new();
    let mut server = tokio::spawn(server(incoming, stop.clone()));
    let _silent = TcpStream::connect(address).await?;
    diagram.at_client("another peer connects and sends nothing");
    let mut client = FeedServiceClient::new(diagram.watch(endpoint(address)?.connect().await?));
    let mut events = client.follow(FollowRequest::default()).await?.into_inner();
    events.message().await?;

    diagram.at_server("SIGTERM: the server has to stop");
    stop.cancel();
    let mut feed = None;
    for _ in 0..MORE {
        if let Err(status) = events.message().await {
            feed = Some(status.code());
            break;
        }
    }
    let ended = timeout(PATIENCE, &mut server).await.is_ok();
    diagram.at_server(if ended { "the server has ended" } else { "the server has not ended" });
    server.abort();
    Ok(Outcome { ended, feed })
}

fn event(sequence: u64) -> FollowResponse {
    FollowResponse { sequence, text: "news".to_owned() }
}

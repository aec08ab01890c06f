//! A reconnect that loses or repeats events.

use std::{fmt, pin::Pin};

use timeline::{Diagram, Tap};
use tokio::{join, select, sync::watch};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, transport};

use crate::{
    Lesson, half,
    network::Network,
    proto::{
        FollowRequest, FollowResponse,
        feed_service_client::FeedServiceClient,
        feed_service_server::{FeedService, FeedServiceServer},
    },
    serve::{endpoint, serve},
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "reconnect-gap",
    line: "a reconnect that loses events, or repeats them",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "A subscription that starts with the next event, or with the last one, does not know what its \
          client has seen. Events that happened in between are lost. If nothing happened, the last event \
          comes twice.",
    recognise: "After a deploy or a network problem, clients differ from the server by a few events until \
                they restart. No log shows an error.",
    cure: "Number the events and keep them. Let the client send the number of its last event, and continue \
           from there. If those events are gone, answer OUT_OF_RANGE.",
    elsewhere: "This does not depend on the stack: only the client knows which events it has.",
};

type Events = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

struct Broken(Feed);

#[tonic::async_trait]
impl FeedService for Broken {
    type FollowStream = Events;

    async fn follow(&self, _: Request<FollowRequest>) -> Result<Response<Events>, Status> {
        // The trap: the latest, and then what is new, whatever the client has.
        let first = self.0.latest();
        Ok(Response::new(self.0.events_from(first)))
    }
}

async fn follow_broken(mut client: FeedServiceClient<Tap>, seen: &Seen) -> Result<(), Status> {
    let request = FollowRequest::default();
    let mut events = client.follow(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        seen.add(event.sequence);
    }
    Ok(())
}

struct Fixed(Feed);

#[tonic::async_trait]
impl FeedService for Fixed {
    type FollowStream = Events;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Events>, Status> {
        let first = request.into_inner().after_sequence + 1;
        Ok(Response::new(self.0.events_from(first)))
    }
}

async fn follow_fixed(mut client: FeedServiceClient<Tap>, seen: &Seen) -> Result<(), Status> {
    let request = FollowRequest { after_sequence: seen.last() };
    let mut events = client.follow(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        seen.add(event.sequence);
    }
    Ok(())
}

/// What the client has seen of six events, with a connection that was lost twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Their sequences, in the order in which they came.
    pub seen: Vec<u64>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = &self.seen;
        let lost: Vec<_> = (1..=6).filter(|sequence| !seen.contains(sequence)).collect();
        let repeated: Vec<_> = seen.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0]).collect();
        match (&lost[..], &repeated[..]) {
            ([], []) => write!(f, "the client saw {seen:?}: each event once, in order"),
            _ => write!(f, "the client saw {seen:?}: it lost {lost:?} and got {repeated:?} twice"),
        }
    }
}

/// With a client that begins anew.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    let feed = Feed::default();
    let service = FeedServiceServer::new(Broken(feed.clone()));
    two_losses(service, feed, async |client, seen| follow_broken(client, seen).await, diagram).await
}

/// With a client that goes on.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    let feed = Feed::default();
    let service = FeedServiceServer::new(Fixed(feed.clone()));
    two_losses(service, feed, async |client, seen| follow_fixed(client, seen).await, diagram).await
}

async fn two_losses(
    service: FeedServiceServer<impl FeedService>,
    feed: Feed,
    follow: impl AsyncFn(FeedServiceClient<Tap>, &Seen) -> Result<(), Status>,
    diagram: Diagram,
) -> anyhow::Result<Outcome> {
    let server = serve(transport::Server::builder().add_service(service)).await?;
    let network = Network::to(server.address).await?;
    let connect = async || -> anyhow::Result<_> {
        let channel = endpoint(network.address)?.connect().await?;
        Ok(FeedServiceClient::new(diagram.watch(channel)))
    };
    let seen = Seen::default();

    let (_, ()) = join!(follow(connect().await?, &seen), async {
        feed.publish(1);
        seen.until(1).await;
        feed.publish(2);
        seen.until(2).await;
        network.go_down().await;
    });
    diagram.at_server("the network is down while events 3, 4 and 5 happen");
    feed.publish(5);
    network.go_up();

    let (_, ()) = join!(follow(connect().await?, &seen), async {
        seen.until(5).await;
        network.go_down().await;
    });
    diagram.at_server("the network is down, and nothing happens");
    network.go_up();

    select! {
        _ = follow(connect().await?, &seen) => {}
        () = async {
            feed.until_call(3).await;
            feed.publish(6);
            seen.until(6).await;
        } => {}
    }
    Ok(Outcome { seen: seen.0.borrow().clone() })
}

/// Events, all of which are kept, and nothing but their sequences.
#[derive(Clone, Default)]
struct Feed {
    latest: watch::Sender<u64>,
    calls: watch::Sender<u32>,
}

impl Feed {
    fn publish(&self, latest: u64) {
        self.latest.send_replace(latest);
    }

    fn latest(&self) -> u64 {
        *self.latest.borrow()
    }

    /// Those that are there, and those that will be.
    fn events_from(&self, first: u64) -> Events {
        self.calls.send_modify(|calls| *calls += 1);
        let mut latest = self.latest.subscribe();
        Box::pin(async_stream::stream! {
            for sequence in first.max(1).. {
                if latest.wait_for(|latest| *latest >= sequence).await.is_err() {
                    return;
                }
                yield Ok(FollowResponse { sequence, text: String::new() });
            }
        })
    }

    async fn until_call(&self, number: u32) {
        let _ = self.calls.subscribe().wait_for(|calls| *calls >= number).await;
    }
}

/// The sequences that the client has seen.
#[derive(Default)]
struct Seen(watch::Sender<Vec<u64>>);

impl Seen {
    fn add(&self, sequence: u64) {
        self.0.send_modify(|seen| seen.push(sequence));
    }

    fn last(&self) -> u64 {
        self.0.borrow().last().copied().unwrap_or_default()
    }

    async fn until(&self, sequence: u64) {
        let _ = self.0.subscribe().wait_for(|seen| seen.contains(&sequence)).await;
    }
}

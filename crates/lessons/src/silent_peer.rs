//! A black hole without keepalive.

use std::{fmt, pin::Pin, time::Duration};

use grpc_wire::code_name;
use timeline::Diagram;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::Stream;
use tonic::{
    Code, Request, Response, Status,
    transport::{Endpoint, Server},
};

use crate::{
    Lesson, PATIENCE, half,
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
    name: "silent-peer",
    line: "a dead network looks like a quiet peer",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "A machine loses power, a cable is pulled, a NAT forgets a connection: none of them sends a last \
          packet. A side that only waits sends nothing, so it never notices that answers are missing.",
    recognise: "A subscriber stays connected but receives nothing until it is restarted. The server counts \
                streams of clients that left hours ago.",
    cure: "Turn on HTTP/2 keepalive on both sides, on the client also while it is idle. If a ping stays \
           unanswered, the connection ends with an error that you can handle.",
    elsewhere: "connectrpc 0.9 has the same trap: keepalive is off by default on both sides. The client of \
                `grpc` 0.9 has it, too.",
};

fn broken_client(endpoint: Endpoint) -> Endpoint {
    // The trap: keepalive is off unless it is asked for.
    endpoint
}

fn broken_server() -> Server {
    Server::builder()
}

// Half a second is for those who watch: ten seconds, and five for the answer,
// find out early enough, and servers do not take it for an attack.
fn fixed_client(endpoint: Endpoint) -> Endpoint {
    endpoint.http2_keep_alive_interval(PING).keep_alive_timeout(PING).keep_alive_while_idle(true)
}

fn fixed_server() -> Server {
    Server::builder().http2_keepalive_interval(Some(PING)).http2_keepalive_timeout(Some(PING))
}

const PING: Duration = Duration::from_millis(500);

/// What the two sides know after the network has fallen silent.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How the client's stream ended, if it did.
    pub client: Option<Code>,
    /// Whether the server has let go of it.
    pub server_let_go: bool,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client {
            None => write!(f, "hung: the client waits for the next event")?,
            Some(code) => write!(f, "the client knows: its stream ended with {}", code_name(code))?,
        }
        match self.server_let_go {
            false => write!(
                f,
                ", the server keeps its stream; the lesson gives up after {PATIENCE:?}, these two never"
            ),
            true => write!(f, "; the server has dropped the stream"),
        }
    }
}

/// Without keepalive.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    follow_into_silence(broken_server(), broken_client, PATIENCE, diagram).await
}

/// With keepalive on both ends.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    // Pings find out within a second, and have more time than that.
    follow_into_silence(fixed_server(), fixed_client, 4 * PATIENCE, diagram).await
}

async fn follow_into_silence(
    mut server: Server,
    client: fn(Endpoint) -> Endpoint,
    patience: Duration,
    diagram: Diagram,
) -> anyhow::Result<Outcome> {
    let (let_go, mut has_let_go) = mpsc::channel(1);
    let server = serve(server.add_service(FeedServiceServer::new(Feed { let_go }))).await?;
    let network = Network::to(server.address).await?;
    let channel = client(endpoint(network.address)?).connect().await?;
    let mut client = FeedServiceClient::new(diagram.watch(channel));
    let mut events = client.follow(FollowRequest::default()).await?.into_inner();
    events.message().await?;
    network.fall_silent();
    diagram.at_client("from here on the network drops everything");

    let (event, server) =
        tokio::join!(timeout(patience, events.message()), timeout(patience, has_let_go.recv()));
    let client = event.ok().map(|event| event.err().map_or(Code::Ok, |status| status.code()));
    Ok(Outcome { client, server_let_go: server.is_ok() })
}

/// One event, and then nothing for a long time.
struct Feed {
    let_go: mpsc::Sender<()>,
}

/// Tells when it is dropped.
struct LetGo(mpsc::Sender<()>);

impl Drop for LetGo {
    fn drop(&mut self) {
        // If it is full, somebody has told already.
        let _ = self.0.try_send(());
    }
}

#[tonic::async_trait]
impl FeedService for Feed {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

    async fn follow(&self, _: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let held = LetGo(self.let_go.clone());
        Ok(Response::new(Box::pin(async_stream::stream! {
            let _held = held;
            yield Ok(FollowResponse { sequence: 1, text: String::new() });
            std::future::pending::<()>().await;
        })))
    }
}

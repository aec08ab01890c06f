//! Three unread streams starve every call.

use std::{fmt, pin::Pin, time::Duration};

use timeline::{Diagram, Tap};
use tokio::{sync::watch, time::timeout};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, transport};

use crate::{
    Lesson, PATIENCE, half,
    proto::{
        FollowRequest, FollowResponse, OrderRequest, OrderResponse,
        feed_service_client::FeedServiceClient,
        feed_service_server::{FeedService, FeedServiceServer},
        order_service_client::OrderServiceClient,
        order_service_server::{OrderService, OrderServiceServer},
    },
    serve::{Server, serve},
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "one-channel",
    line: "three unread streams block every other call of their channel",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "All calls of a `Channel` share one connection, and its window for unread bytes: 5 MiB by default, \
          with 2 MiB for each stream. Three unread streams fill that window. Then no answer to any other \
          call fits in.",
    recognise: "Every call of one client hangs or exceeds its deadline. The server is idle and other clients \
                work. It begins when the client reads a stream slowly. A restart of the client helps.",
    cure: "Give long streams a channel of their own, so that other calls continue. Make the connection's \
           window several times as large as a stream's, so that one stalled stream does not block the \
           others. Read promptly, into a bounded queue.",
    elsewhere: "connectrpc 0.9 has the same trap: three unread streams block every other call of a \
                connection. The client of `grpc` 0.9 has it, too.",
};

/// What the client has to look after: three feeds, and an order now and then.
struct Client {
    feeds: FeedServiceClient<Tap>,
    orders: OrderServiceClient<Tap>,
}

async fn broken_client(server: &Server, diagram: &Diagram) -> anyhow::Result<Client> {
    // The trap: cheap to clone, and the same connection.
    let channel = server.endpoint()?.connect().await?;
    Ok(Client {
        feeds: FeedServiceClient::new(diagram.watch_as("feeds", channel.clone())),
        orders: OrderServiceClient::new(diagram.watch_as("orders", channel)),
    })
}

async fn fixed_client(server: &Server, diagram: &Diagram) -> anyhow::Result<Client> {
    let endpoint = server.endpoint()?;
    let streams = endpoint
        .clone()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .connect()
        .await?;
    Ok(Client {
        feeds: FeedServiceClient::new(diagram.watch_as("feeds", streams)),
        orders: OrderServiceClient::new(diagram.watch_as("orders", endpoint.connect().await?)),
    })
}

/// What became of two orders beside three feeds that nobody reads.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many were answered before one was not.
    pub answered: usize,
}

const ORDERS: usize = 2;

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.answered {
            ORDERS => write!(f, "both orders were answered although nobody reads the feeds"),
            _ => write!(
                f,
                "the server took the order, and its answer did not come within {PATIENCE:?}: nobody reads \
                 the feeds, and it waits behind them; the lesson gave up"
            ),
        }
    }
}

/// One channel for everything.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    let (shop, sent) = Shop::router(&diagram);
    let server = serve(shop).await?;
    let client = broken_client(&server, &diagram).await?;
    order_beside_feeds(client, sent, diagram).await
}

/// The feeds have their own.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    let (shop, sent) = Shop::router(&diagram);
    let server = serve(shop).await?;
    let client = fixed_client(&server, &diagram).await?;
    order_beside_feeds(client, sent, diagram).await
}

async fn order_beside_feeds(
    mut client: Client,
    mut sent: watch::Receiver<usize>,
    diagram: Diagram,
) -> anyhow::Result<Outcome> {
    /// A server that could send would have sent within this time.
    const QUIET: Duration = Duration::from_millis(300);
    // Held and not read, as by a task that waits for something else.
    let _feeds = [
        client.feeds.follow(FollowRequest::default()).await?,
        client.feeds.follow(FollowRequest::default()).await?,
        client.feeds.follow(FollowRequest::default()).await?,
    ];
    for answered in 0..ORDERS {
        while timeout(QUIET, sent.changed()).await.is_ok() {}
        if answered == 0 {
            diagram.at_server("the feeds stall: nobody reads what was sent");
        }
        let request = OrderRequest { item: "tea".to_owned(), ..OrderRequest::default() };
        match timeout(PATIENCE, client.orders.order(request)).await {
            Ok(answer) => answer?,
            Err(_) => {
                diagram.at_client(&format!("no answer within {PATIENCE:?}"));
                return Ok(Outcome { answered });
            }
        };
    }
    Ok(Outcome { answered: ORDERS })
}

/// Has three feeds of pictures and takes orders.
#[derive(Clone)]
struct Shop {
    /// In pictures.
    sent: watch::Sender<usize>,
    diagram: Diagram,
}

impl Shop {
    fn router(diagram: &Diagram) -> (transport::server::Router, watch::Receiver<usize>) {
        let (sent, told) = watch::channel(0);
        let shop = Self { sent, diagram: diagram.clone() };
        let router = transport::Server::builder()
            .add_service(FeedServiceServer::new(shop.clone()))
            .add_service(OrderServiceServer::new(shop));
        (router, told)
    }
}

#[tonic::async_trait]
impl FeedService for Shop {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

    async fn follow(&self, _: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let sent = self.sent.clone();
        let pictures = (1..).map(move |sequence| {
            sent.send_modify(|pictures| *pictures += 1);
            Ok(FollowResponse { sequence, text: "#".repeat(64 << 10) })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(pictures))))
    }
}

#[tonic::async_trait]
impl OrderService for Shop {
    async fn order(&self, request: Request<OrderRequest>) -> Result<Response<OrderResponse>, Status> {
        self.diagram.at_server(&format!("accepts an order of {}", request.into_inner().item));
        Ok(Response::new(OrderResponse { number: 1 }))
    }
}

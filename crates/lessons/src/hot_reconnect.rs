//! Thousands of attempts in a second without backoff.

use std::{
    fmt,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use timeline::{Diagram, Tap};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, Uri},
};
use tower::service_fn;

use crate::{
    Lesson, PATIENCE, half,
    proto::{
        OrderRequest, OrderResponse,
        order_service_client::OrderServiceClient,
        order_service_server::{OrderService, OrderServiceServer},
    },
    serve::endpoint,
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "hot-reconnect",
    line: "a client that reconnects at once, thousands of times a second",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "A channel of tonic has no backoff, unlike the channels of other gRPC libraries. It connects again \
          for the next call, at once. If the peer accepts and hangs up, it even does so within a call. A \
          load balancer without servers behaves like that.",
    recognise: "When a server restarts, its accept rate, its load balancer's log and its clients' CPU use \
                all rise steeply. The more clients there are, the longer the restart takes.",
    cure: "Let the connector wait before each attempt. Double the wait up to a limit, and make a part of it \
           random. Otherwise all clients of a failed server return at the same moment.",
    elsewhere: "connectrpc 0.9 has half of it: its client has no backoff, but connects only once for a call. \
                The client of `grpc` 0.9 connects again and again within a call, or panics.",
};

fn connect_broken(endpoint: Endpoint) -> Channel {
    // The trap: what has failed is tried again at once, by the next call or by the
    // channel itself.
    endpoint.connect_lazy()
}

fn connect_fixed(endpoint: Endpoint) -> Channel {
    let (mut pause, mut last) = (Duration::ZERO, None::<Instant>);
    endpoint.connect_with_connector_lazy(service_fn(move |server: Uri| {
        pause = match last {
            Some(last) if last.elapsed() < 2 * LONGEST => (2 * pause).clamp(FIRST, LONGEST),
            // After a good while it is not a further attempt, but a first one.
            _ => Duration::ZERO,
        };
        let at = Instant::now() + pause.mul_f64(fastrand::f64());
        last = Some(at);
        async move {
            sleep_until(at).await;
            let address = server.authority().map_or("", |authority| authority.as_str());
            TcpStream::connect(address).await.map(TokioIo::new)
        }
    }))
}

/// The first pause.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause. It is short here for the demonstration: a minute is usual.
const LONGEST: Duration = Duration::from_millis(500);

async fn order(mut client: OrderServiceClient<Tap>) -> OrderResponse {
    loop {
        // A call can hang when its connection ends at once, so each attempt has a bound.
        if let Ok(Ok(response)) = timeout(PATIENCE, client.order(request())).await {
            return response.into_inner();
        }
    }
}

/// The same request id each time, so that the server can recognize a repetition.
fn request() -> OrderRequest {
    OrderRequest { item: "tea".to_owned(), request_id: "92a5b8ee".to_owned() }
}

/// What it took to place an order with a server that hangs up for a second.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many connections the client attempted.
    pub attempts: u64,
    /// The number of the order.
    pub number: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One digit of it is about the same each time.
        let digit = 10_u64.pow(self.attempts.checked_ilog10().unwrap_or_default());
        let about = (self.attempts + digit / 2) / digit * digit;
        write!(f, "the server hung up for {DOWN:?}, and this one client made about {about} attempts")
    }
}

const DOWN: Duration = Duration::from_secs(1);
/// How many attempts are drawn.
const DRAWN: u64 = 3;

/// With a channel that reconnects immediately.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    order_while_down(connect_broken, diagram).await
}

/// With a channel whose pauses grow.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    order_while_down(connect_fixed, diagram).await
}

async fn order_while_down(connect: fn(Endpoint) -> Channel, diagram: Diagram) -> anyhow::Result<Outcome> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let attempts = Arc::new(AtomicU64::new(0));
    let is_up = is_up(attempts.clone(), diagram.clone());
    let connections = TcpListenerStream::new(listener).filter(is_up);
    let router = Server::builder().add_service(OrderServiceServer::new(Shop));
    let server = tokio::spawn(router.serve_with_incoming(connections));

    let channel = connect(endpoint(address)?);
    let response = order(OrderServiceClient::new(diagram.watch(channel))).await;
    server.abort();
    Ok(Outcome { attempts: attempts.load(Relaxed), number: response.number })
}

/// Counts connections. Those of the first second are dropped.
fn is_up<T>(attempts: Arc<AtomicU64>, diagram: Diagram) -> impl FnMut(&T) -> bool {
    let up = Instant::now() + DOWN;
    move |_| {
        let is_up = Instant::now() >= up;
        let attempt = attempts.fetch_add(1, Relaxed) + 1;
        match attempt {
            _ if is_up => diagram.at_server("is up again and accepts the order"),
            DRAWN => diagram.hush(true),
            _ if attempt == DRAWN + 1 => diagram.at_client("and so on"),
            _ => {}
        }
        is_up
    }
}

struct Shop;

#[tonic::async_trait]
impl OrderService for Shop {
    async fn order(&self, _: Request<OrderRequest>) -> Result<Response<OrderResponse>, Status> {
        Ok(Response::new(OrderResponse { number: 1 }))
    }
}

//! A retried command that happens twice.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use timeline::{Diagram, Tap};
use tonic::{Request, Response, Status, transport};
use uuid::Uuid;

use crate::{
    Lesson, half,
    proto::{
        OrderRequest, OrderResponse,
        order_service_client::OrderServiceClient,
        order_service_server::{OrderService, OrderServiceServer},
    },
    serve::serve,
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "retry-twice",
    line: "a command that is retried after a lost answer, and happens twice",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "An error at the client does not mean that nothing happened. The command may have succeeded, and \
          only its answer was lost or late. A plain retry is then a second command.",
    recognise: "Orders, payments or mails exist twice, seconds apart. It happens when the network or the \
                database is slow.",
    cure: "Let the client choose an id before the first attempt and send the same id with each attempt. Let \
           the server store the id together with the effect. For a known id, the server returns the first \
           answer again.",
    elsewhere: "This does not depend on the stack: no client can know whether a command whose answer is \
                missing has happened.",
};

const ATTEMPTS: usize = 5;
const DEADLINE: Duration = Duration::from_millis(500);

struct Broken(Shop);

#[tonic::async_trait]
impl OrderService for Broken {
    async fn order(&self, request: Request<OrderRequest>) -> Result<Response<OrderResponse>, Status> {
        let OrderRequest { item, .. } = request.into_inner();
        let number = self.0.lock().take_order(item);
        self.0.answer(number).await
    }
}

async fn broken_order(client: &mut OrderServiceClient<Tap>, item: &str) -> Result<OrderResponse, Status> {
    let mut attempt = 1;
    loop {
        let request = OrderRequest { item: item.to_owned(), ..OrderRequest::default() };
        match client.order(request).await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if attempt == ATTEMPTS => return Err(status),
            // The trap: it may well have happened.
            Err(_) => attempt += 1,
        }
    }
}

struct Fixed(Shop);

#[tonic::async_trait]
impl OrderService for Fixed {
    async fn order(&self, request: Request<OrderRequest>) -> Result<Response<OrderResponse>, Status> {
        let OrderRequest { item, request_id } = request.into_inner();
        let number = {
            // The order and its id in one step, or two attempts at once are two orders.
            let mut orders = self.0.lock();
            match orders.by_request.get(&request_id) {
                Some(number) => *number,
                None => {
                    let number = orders.take_order(item);
                    orders.by_request.insert(request_id, number);
                    number
                }
            }
        };
        self.0.answer(number).await
    }
}

async fn fixed_order(client: &mut OrderServiceClient<Tap>, item: &str) -> Result<OrderResponse, Status> {
    let request_id = Uuid::new_v4().to_string();
    let mut attempt = 1;
    loop {
        let request = OrderRequest { item: item.to_owned(), request_id: request_id.clone() };
        match client.order(request).await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if attempt == ATTEMPTS => return Err(status),
            Err(_) => attempt += 1,
        }
    }
}

/// What a shop has after one order whose first answer was lost.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many orders it took.
    pub orders: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.orders {
            1 => write!(f, "one tea was ordered, and one is on its way"),
            orders => write!(f, "one tea was ordered, and {orders} are on their way"),
        }
    }
}

/// Each attempt is a command.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    let shop = Shop::new(&diagram);
    let service = OrderServiceServer::new(Broken(shop.clone()));
    let server = serve(transport::Server::builder().add_service(service)).await?;
    let channel = server.endpoint()?.timeout(DEADLINE).connect().await?;
    let mut client = OrderServiceClient::new(diagram.watch(channel));
    broken_order(&mut client, "tea").await?;
    Ok(Outcome { orders: shop.lock().taken.len() })
}

/// All attempts are one.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    let shop = Shop::new(&diagram);
    let service = OrderServiceServer::new(Fixed(shop.clone()));
    let server = serve(transport::Server::builder().add_service(service)).await?;
    let channel = server.endpoint()?.timeout(DEADLINE).connect().await?;
    let mut client = OrderServiceClient::new(diagram.watch(channel));
    fixed_order(&mut client, "tea").await?;
    Ok(Outcome { orders: shop.lock().taken.len() })
}

/// Takes orders; its first answer never arrives.
#[derive(Clone)]
struct Shop {
    orders: Arc<Mutex<Orders>>,
    diagram: Diagram,
}

/// As it would be in a database.
#[derive(Default)]
struct Orders {
    taken: Vec<String>,
    by_request: HashMap<String, u64>,
    answers: u64,
}

impl Orders {
    fn take_order(&mut self, item: String) -> u64 {
        self.taken.push(item);
        self.taken.len() as u64
    }
}

impl Shop {
    fn new(diagram: &Diagram) -> Self {
        Self { orders: Arc::default(), diagram: diagram.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, number: u64) -> Result<Response<OrderResponse>, Status> {
        let first = {
            let mut orders = self.lock();
            orders.answers += 1;
            orders.answers == 1
        };
        if first {
            self.diagram.at_server(&format!("order {number} is done; its answer gets lost"));
            std::future::pending::<()>().await;
        }
        self.diagram.at_server(&format!("order {number} is done"));
        Ok(Response::new(OrderResponse { number }))
    }
}

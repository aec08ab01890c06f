//! A handler cancelled in the middle of its commit.

use std::{fmt, sync::Arc};

use timeline::Diagram;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use tonic::{Request, Response, Status, transport};

use crate::{
    Lesson, PATIENCE, half,
    proto::{
        OrderRequest, OrderResponse,
        order_service_client::OrderServiceClient,
        order_service_server::{OrderService, OrderServiceServer},
    },
    serve::serve,
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "cancelled-commit",
    line: "a client that leaves cuts the handler's commit in half",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "When a client leaves (Ctrl-C, a deadline, a lost connection), tonic drops the handler at its \
          current `await`. The code after it never runs. There is no error and no line in the log.",
    recognise: "Records contradict each other, such as a payment without an order. It happens when clients \
                give up. No handler reports a failure.",
    cure: "Make the change in one step, such as a transaction. Or run it in a task of its own with \
           `tokio::spawn` and await the task: the handler may be dropped, but the task finishes.",
    elsewhere: "connectrpc 0.9 has the same trap: it drops the handler of a client that leaves.",
};

struct Broken(Books);

#[tonic::async_trait]
impl OrderService for Broken {
    async fn order(&self, request: Request<OrderRequest>) -> Result<Response<OrderResponse>, Status> {
        let _handler = self.0.handler();
        let OrderRequest { item, .. } = request.into_inner();
        self.0.charge(&item).await?;
        // The trap: here ends the handler of a client that has gone.
        let number = self.0.ship(&item).await?;
        Ok(Response::new(OrderResponse { number }))
    }
}

struct Fixed(Books);

#[tonic::async_trait]
impl OrderService for Fixed {
    async fn order(&self, request: Request<OrderRequest>) -> Result<Response<OrderResponse>, Status> {
        let _handler = self.0.handler();
        let OrderRequest { item, .. } = request.into_inner();
        let books = self.0.clone();
        let commit = tokio::spawn(async move {
            books.charge(&item).await?;
            books.ship(&item).await
        });
        let number = commit.await.map_err(|error| Status::internal(format!("cut short: {error}")))??;
        Ok(Response::new(OrderResponse { number }))
    }
}

/// What is in the books after an order whose client went away.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many orders were paid for.
    pub charged: u64,
    /// How many were sent.
    pub shipped: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { charged, shipped } = self;
        write!(f, "charged: {charged}, shipped: {shipped}; ")?;
        match charged == shipped {
            true => write!(f, "the client left, and its order was still completed"),
            false => write!(f, "the client paid for tea that never comes"),
        }
    }
}

/// The handler is all there is.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    let books = Books::new(&diagram);
    leave_in_the_middle(OrderServiceServer::new(Broken(books.clone())), books, diagram).await
}

/// The commit is a task of its own.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    let books = Books::new(&diagram);
    leave_in_the_middle(OrderServiceServer::new(Fixed(books.clone())), books, diagram).await
}

/// Goes away when the order was charged and the disk has not answered yet.
async fn leave_in_the_middle(
    service: OrderServiceServer<impl OrderService>,
    books: Books,
    diagram: Diagram,
) -> anyhow::Result<Outcome> {
    let server = serve(transport::Server::builder().add_service(service)).await?;
    let mut client = OrderServiceClient::new(diagram.watch(server.connect().await?));
    let mut state = books.state.subscribe();
    tokio::select! {
        answer = client.order(OrderRequest { item: "tea".to_owned(), ..OrderRequest::default() }) => {
            answer?;
        }
        charged = state.wait_for(|state| state.charged > 0) => drop(charged?),
    }
    state.wait_for(|state| state.handlers_gone > 0).await?;
    diagram.at_server("the handler was dropped");
    diagram.at_server("the disk has written");
    books.disk.add_permits(2);
    // It ends early when there is something to wait for.
    let _ = timeout(PATIENCE, state.wait_for(|state| state.shipped > 0)).await;
    let State { charged, shipped, .. } = *state.borrow();
    Ok(Outcome { charged, shipped })
}

/// Two records that belong together, on a disk that takes its time.
#[derive(Clone)]
struct Books {
    state: watch::Sender<State>,
    /// A permit for each write that is through.
    disk: Arc<Semaphore>,
    diagram: Diagram,
}

#[derive(Debug, Default)]
struct State {
    charged: u64,
    shipped: u64,
    handlers_gone: u64,
}

impl Books {
    fn new(diagram: &Diagram) -> Self {
        let state = watch::Sender::new(State::default());
        Self { state, disk: Arc::new(Semaphore::new(0)), diagram: diagram.clone() }
    }

    async fn charge(&self, item: &str) -> Result<(), Status> {
        self.diagram.at_server(&format!("charges for the {item}, and waits for the disk"));
        self.state.send_modify(|state| state.charged += 1);
        self.written().await
    }

    async fn ship(&self, item: &str) -> Result<u64, Status> {
        self.written().await?;
        self.diagram.at_server(&format!("ships the {item}"));
        self.state.send_modify(|state| state.shipped += 1);
        Ok(1)
    }

    async fn written(&self) -> Result<(), Status> {
        let permit = self.disk.acquire().await.map_err(|_| Status::internal("the disk is gone"))?;
        permit.forget();
        Ok(())
    }

    fn handler(&self) -> Handler<'_> {
        Handler(self)
    }
}

/// Tells when a handler has ended or was dropped.
struct Handler<'a>(&'a Books);

impl Drop for Handler<'_> {
    fn drop(&mut self) {
        self.0.state.send_modify(|state| state.handlers_gone += 1);
    }
}

//! A warehouse: one service with one RPC of each mode.

use std::{collections::HashMap, pin::Pin, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tokio_stream::Stream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

pub mod pb {
    tonic::include_proto!("stock.v1");
}

use pb::{stock_server::*, *};

/// The most lines of a delivery that are held in memory.
const MAX_LINES: usize = 100_000;

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The log holds every change. Readers wait for its next change, each at a place of its own.
#[derive(Clone, Default)]
struct Warehouse {
    log: watch::Sender<Log>,
}

#[derive(Default)]
struct Log {
    lines: Vec<Line>,
    /// The last sequence of each id.
    booked: HashMap<String, u64>,
}

impl Warehouse {
    /// Books the lines once, however often the id comes. Returns the last sequence.
    fn book(&self, id: String, lines: Vec<Line>) -> Result<u64, Status> {
        if id.is_empty() {
            return Err(Status::invalid_argument("the id is empty: send a UUID"));
        }
        let mut last = 0;
        self.log.send_modify(|Log { lines: log, booked }| {
            last = *booked.entry(id).or_insert_with(|| {
                log.extend(lines);
                log.len() as u64
            });
        });
        Ok(last)
    }
}

#[tonic::async_trait]
impl Stock for Warehouse {
    async fn get_quantity(
        &self,
        request: Request<GetQuantityRequest>,
    ) -> Result<Response<GetQuantityResponse>, Status> {
        let item = request.into_inner().item;
        let log = self.log.borrow();
        let mut lines = log.lines.iter().filter(|line| line.item == item).peekable();
        if lines.peek().is_none() {
            return Err(Status::not_found(format!("there has never been any {item:?}")));
        }
        let quantity = lines.map(|line| line.quantity).sum();
        Ok(Response::new(GetQuantityResponse { quantity }))
    }

    type WatchChangesStream = Responses<WatchChangesResponse>;

    async fn watch_changes(
        &self,
        request: Request<WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let mut sequence = request.into_inner().after_sequence;
        let mut log = self.log.subscribe();
        if sequence > log.borrow().lines.len() as u64 {
            return Err(Status::out_of_range("this log is shorter: begin again with 0"));
        }
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            loop {
                let next = log.borrow_and_update().lines.get(sequence as usize).cloned();
                if let Some(line) = next {
                    sequence += 1;
                    yield WatchChangesResponse { sequence, line: Some(line) };
                } else {
                    log.changed().await.map_err(|_| Status::unavailable("the server stops"))?;
                }
            }
        })))
    }

    async fn receive_delivery(
        &self,
        request: Request<Streaming<ReceiveDeliveryRequest>>,
    ) -> Result<Response<ReceiveDeliveryResponse>, Status> {
        let mut batches = request.into_inner();
        let mut delivery = Vec::new();
        while let Some(batch) = batches.message().await? {
            delivery.extend(batch.lines);
            if delivery.len() > MAX_LINES {
                return Err(Status::resource_exhausted("the delivery has over 100,000 lines"));
            }
            if batch.finish {
                let last_sequence = self.book(batch.delivery_id, delivery)?;
                return Ok(Response::new(ReceiveDeliveryResponse { last_sequence }));
            }
        }
        Err(Status::aborted("the stream ended without finish: nothing was booked"))
    }

    type PickStream = Responses<PickResponse>;

    async fn pick(
        &self,
        request: Request<Streaming<PickRequest>>,
    ) -> Result<Response<Self::PickStream>, Status> {
        let mut picks = request.into_inner();
        let warehouse = self.clone();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            while let Some(PickRequest { pick_id, line }) = picks.message().await? {
                let sequence = warehouse.book(pick_id.clone(), line.into_iter().collect())?;
                yield PickResponse { pick_id, sequence };
            }
        })))
    }
}

/// Serves until the program ends.
pub async fn serve(listener: TcpListener) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .max_concurrent_streams(100)
        .add_service(StockServer::new(Warehouse::default()))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
}

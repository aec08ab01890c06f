//! The same work in the wrong mode.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use timeline::Diagram;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_util::io::{InspectReader, InspectWriter};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{self, Channel},
};
use tower::service_fn;

use crate::{
    Lesson, half,
    proto::{
        RecordColumnsRequest, RecordColumnsResponse, RecordRequest, RecordResponse, RecordStreamRequest,
        RecordStreamResponse,
        reading_service_client::ReadingServiceClient,
        reading_service_server::{ReadingService, ReadingServiceServer},
    },
    serve::{Server, serve},
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "wrong-mode",
    line: "one call for each of 10,000 readings, compared with one stream, and with columns in a stream",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "Every call costs headers, a status, a stream and a task on each side, however small its message \
          is. A message within a stream costs less. A value in a packed field costs almost nothing.",
    recognise: "The CPU is busy and the network is not. The profile shows HTTP/2 and memory allocation in \
                place of your own code. There are about as many calls as rows.",
    cure: "First put hundreds or thousands of values into one message, with one field for each column. Then \
           few messages remain. Unary calls can carry them; use a client stream when one answer about all of \
           them is enough.",
    elsewhere: "This does not depend on the stack: each one sends headers and a status for every call.",
};

/// How many readings there are to be delivered.
const READINGS: usize = 10_000;
/// How many values a column has.
const COLUMN: usize = 1_000;

type Client = ReadingServiceClient<Channel>;

async fn by_calls(client: &Client, readings: &[RecordRequest]) -> anyhow::Result<Delivered> {
    let mut recorded = 0;
    // The trap: a call for each. One by one they would take longer than by the hundred.
    for readings in readings.chunks(100) {
        let calls: JoinSet<_> = readings.iter().map(|reading| record(client.clone(), *reading)).collect();
        for answer in calls.join_all().await {
            recorded += answer?.into_inner().recorded;
        }
    }
    Ok(Delivered { requests: readings.len(), answers: readings.len(), recorded })
}

async fn record(mut client: Client, reading: RecordRequest) -> Result<Response<RecordResponse>, Status> {
    client.record(reading).await
}

async fn by_stream(client: &Client, readings: &[RecordRequest]) -> anyhow::Result<Delivered> {
    let requests: Vec<_> = readings.iter().map(single).collect();
    let sent = requests.len();
    let answer = client.clone().record_stream(tokio_stream::iter(requests)).await?;
    Ok(Delivered { requests: sent, answers: 1, recorded: answer.into_inner().recorded })
}

async fn by_columns(client: &Client, readings: &[RecordRequest]) -> anyhow::Result<Delivered> {
    let requests: Vec<_> = readings.chunks(COLUMN).map(columns).collect();
    let sent = requests.len();
    let answer = client.clone().record_columns(tokio_stream::iter(requests)).await?;
    Ok(Delivered { requests: sent, answers: 1, recorded: answer.into_inner().recorded })
}

fn single(reading: &RecordRequest) -> RecordStreamRequest {
    RecordStreamRequest { time_ms: reading.time_ms, celsius: reading.celsius }
}

fn columns(readings: &[RecordRequest]) -> RecordColumnsRequest {
    RecordColumnsRequest {
        time_ms: readings.iter().map(|reading| reading.time_ms).collect(),
        celsius: readings.iter().map(|reading| reading.celsius).collect(),
    }
}

/// What came of it, in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// From the client.
    pub requests: usize,
    /// From the server.
    pub answers: usize,
    /// How many readings the server has counted.
    pub recorded: u64,
}

/// What it took, of both sides together.
#[derive(Debug)]
pub struct Price {
    /// What it was for.
    pub delivered: Delivered,
    /// On the wire, both ways.
    pub bytes: u64,
    /// From the first call to the last answer.
    pub time: Duration,
    /// On all cores.
    pub cpu: Duration,
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivered: Delivered { requests, answers, recorded }, bytes, time, cpu } = self;
        let each = |time: &Duration| time.as_micros() as f64 / *recorded as f64;
        let (time, cpu) = (each(time), each(cpu));
        write!(f, "{requests} requests and {answers} {}", if *answers == 1 { "answer" } else { "answers" })?;
        write!(f, "; a reading costs {} bytes, {time:.1} µs and ", bytes / recorded.max(&1))?;
        match cpu {
            0.0..1.0 => write!(f, "less than 1 µs of CPU")?,
            _ => write!(f, "{cpu:.0} µs of CPU")?,
        }
        f.write_str(if cfg!(debug_assertions) { ", in a debug build" } else { "" })
    }
}

/// What the better ways take.
#[derive(Debug)]
pub struct Better {
    /// A client stream of readings.
    pub stream: Price,
    /// A client stream of columns.
    pub columns: Price,
}

impl fmt::Display for Better {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, columns } = self;
        write!(f, "the same readings by a client stream: {stream}. In columns: {columns}")
    }
}

/// A call for each reading.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Price> {
    let server = start().await?;
    let mut watched = ReadingServiceClient::new(diagram.watch(server.connect().await?));
    watched.record(reading(0)).await?;
    diagram.at_client(&format!("{READINGS} such calls, 100 at a time"));
    measured(&server, by_calls).await
}

/// A message for each reading, and one for many.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Better> {
    let server = start().await?;
    let some: Vec<_> = (0..3).map(reading).collect();
    let mut watched = ReadingServiceClient::new(diagram.watch(server.connect().await?));
    watched.record_stream(tokio_stream::iter(some.iter().map(single).collect::<Vec<_>>())).await?;
    diagram.at_client(&format!("one such call, with {READINGS} messages"));
    let stream = measured(&server, by_stream).await?;
    watched.record_columns(tokio_stream::once(columns(&some))).await?;
    diagram
        .at_client(&format!("one such call, with {} messages of {COLUMN} readings each", READINGS / COLUMN));
    let columns = measured(&server, by_columns).await?;
    Ok(Better { stream, columns })
}

fn reading(number: u64) -> RecordRequest {
    RecordRequest { time_ms: 1_790_000_000_000 + 250 * number, celsius: 20.0 + (number % 100) as f64 / 10.0 }
}

async fn start() -> anyhow::Result<Server> {
    let service = ReadingServiceServer::new(Readings);
    // Why not the defaults: the lesson `small-messages`.
    let server = transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20);
    serve({ server }.add_service(service)).await
}

async fn measured(
    server: &Server,
    deliver: impl AsyncFnOnce(&Client, &[RecordRequest]) -> anyhow::Result<Delivered>,
) -> anyhow::Result<Price> {
    let readings: Vec<_> = (0..READINGS as u64).map(reading).collect();
    let bytes = Arc::new(AtomicU64::new(0));
    let client = Client::new(counted(server, bytes.clone()).await?);
    let (cpu, begun, handshake) = (cpu_time()?, Instant::now(), bytes.load(Relaxed));
    let delivered = deliver(&client, &readings).await?;
    let time = begun.elapsed();
    let bytes = bytes.load(Relaxed) - handshake;
    Ok(Price { delivered, bytes, time, cpu: cpu_time()?.saturating_sub(cpu) })
}

/// A channel that counts what passes on its connection.
async fn counted(server: &Server, bytes: Arc<AtomicU64>) -> anyhow::Result<Channel> {
    let address = server.address;
    let connect = service_fn(move |_| {
        let (sent, received) = (bytes.clone(), bytes.clone());
        async move {
            let connection = TcpStream::connect(address).await?;
            connection.set_nodelay(true)?;
            let count = |bytes: Arc<AtomicU64>| {
                move |passed: &[u8]| {
                    bytes.fetch_add(passed.len() as u64, Relaxed);
                }
            };
            let connection = InspectReader::new(connection, count(received));
            Ok::<_, io::Error>(TokioIo::new(InspectWriter::new(connection, count(sent))))
        }
    });
    Ok(server.endpoint()?.connect_with_connector(connect).await?)
}

/// What this process has used: the client and the server.
fn cpu_time() -> anyhow::Result<Duration> {
    shared_process::cpu_time().context("the platform does not tell the CPU time of a process")
}

/// Counts what it is given, and does nothing else.
struct Readings;

#[tonic::async_trait]
impl ReadingService for Readings {
    async fn record(&self, _: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        Ok(Response::new(RecordResponse { recorded: 1 }))
    }

    async fn record_stream(
        &self,
        request: Request<Streaming<RecordStreamRequest>>,
    ) -> Result<Response<RecordStreamResponse>, Status> {
        let (mut requests, mut recorded) = (request.into_inner(), 0);
        while requests.message().await?.is_some() {
            recorded += 1;
        }
        Ok(Response::new(RecordStreamResponse { recorded }))
    }

    async fn record_columns(
        &self,
        request: Request<Streaming<RecordColumnsRequest>>,
    ) -> Result<Response<RecordColumnsResponse>, Status> {
        let (mut requests, mut recorded) = (request.into_inner(), 0);
        while let Some(request) = requests.message().await? {
            recorded += request.celsius.len() as u64;
        }
        Ok(Response::new(RecordColumnsResponse { recorded }))
    }
}

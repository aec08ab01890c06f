//! A server that is attacked, and somebody who means well.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use grpc_wire::limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shared_proto::fourmodes::v1::{
    MultiplyRequest, WatchQuotesRequest, server_streaming_service_client::ServerStreamingServiceClient,
    unary_service_client::UnaryServiceClient, watch_quotes_response::Event,
};
use test_support::{Certs, Program, ServerProgram};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{at_length, tls};

pub(crate) const QUOTES: &str = "/fourmodes.v1.ServerStreamingService/WatchQuotes";
pub(crate) const READINGS: &str = "/fourmodes.v1.ClientStreamingService/RecordReadings";

/// How much a server may grow.
const GROWTH: u64 = 64 << 20;

/// Attacks may go on beside each other, each with a server of its own. In `just abuse`
/// each has the machine to itself.
static MACHINE: RwLock<()> = RwLock::new(());

pub(crate) fn run(test: impl Future<Output = ()>) {
    if at_length().is_some() {
        return run_alone(test);
    }
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    run_now(test);
}

/// For a test that measures times.
pub(crate) fn run_alone(test: impl Future<Output = ()>) {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    run_now(test);
}

fn run_now(test: impl Future<Output = ()>) {
    // As many files as there may be: each socket is one.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    test_support::run(test);
}

pub(crate) struct Victim {
    pub(crate) address: SocketAddr,
    /// Of the one who means well: connected before the others come.
    pub(crate) channel: Channel,
    program: ServerProgram,
}

impl Victim {
    pub(crate) async fn start(options: &[&str]) -> Self {
        let program = launch(options);
        let endpoint = Endpoint::from_shared(program.url.clone()).unwrap();
        let channel = with_windows(endpoint).connect().await.unwrap();
        Self { address: program.address, channel, program }
    }

    /// One that is called by TLS.
    pub(crate) async fn with_tls(options: &[&str], certs: &Certs) -> Self {
        let [cert, key] = ["server.pem", "server-key.pem"].map(|name| certs.path(name).display().to_string());
        let program = launch(&[options, &["--tls-cert", &cert, "--tls-key", &key]].concat());
        let channel = tls::channel(certs, program.address);
        // So that it is connected by now.
        UnaryServiceClient::new(channel.clone()).multiply(MultiplyRequest { a: 6, b: 7 }).await.unwrap();
        Self { address: program.address, channel, program }
    }

    /// During the attack calls succeed, and the server does not grow.
    pub(crate) async fn survives<T>(&self, attack: impl Future<Output = T>) -> T {
        self.survives_within(GROWTH, attack).await
    }

    /// [`survives`](Self::survives), when the server may grow by so many bytes.
    pub(crate) async fn survives_within<T>(&self, most: u64, attack: impl Future<Output = T>) -> T {
        let before = self.memory();
        let over = CancellationToken::new();
        // A task of its own, so that an attack that is busy leaves it its turns.
        let calling = tokio::spawn(calls_until(over.clone(), self.channel.clone(), self.program.id()));
        let done = attack.await;
        over.cancel();
        let Calls { made, failed, most_memory } = calling.await.unwrap();
        let growth = most_memory.saturating_sub(before);
        println!("{made} calls, {failed} failed; the server grew by {} KiB", growth >> 10);
        assert!(failed * 100 <= made, "{failed} of {made} calls failed");
        assert!(growth <= most, "the server grew by {growth} bytes");
        done
    }

    /// The 99th percentile of what a quote takes from the server to a reader,
    /// over a time with so many of them a second.
    pub(crate) async fn latency(&self, rate: u32, time: Duration) -> Duration {
        let interval = Duration::from_secs(1) / rate;
        let request =
            WatchQuotesRequest { interval: interval.try_into().ok(), ..WatchQuotesRequest::default() };
        let mut client = ServerStreamingServiceClient::new(self.channel.clone());
        let mut quotes = client.watch_quotes(request).await.unwrap().into_inner();
        let mut took = Vec::new();
        let over = tokio::time::Instant::now() + time;
        while let Ok(response) = tokio::time::timeout_at(over, quotes.message()).await {
            if let Some(Event::Quote(quote)) = response.unwrap().expect("it has no end").event {
                let made = SystemTime::try_from(quote.time.unwrap()).unwrap();
                took.push(made.elapsed().unwrap_or_default());
            }
        }
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }

    fn memory(&self) -> u64 {
        memory(self.program.id())
    }
}

fn launch(options: &[&str]) -> ServerProgram {
    let program = Program::new(env!("CARGO_BIN_EXE_end-to-end-server")).arg("all");
    let program = options.iter().fold(program, Program::arg).env("FOURMODES_LISTEN", "127.0.0.1:0");
    // What was freed goes back at once: what counts is what the server holds.
    let program = program.env("MIMALLOC_PURGE_DELAY", "0");
    program.env("FOURMODES_DATA_DIR", ":memory:").env("RUST_LOG", "off").serve()
}

pub(crate) fn with_windows(endpoint: Endpoint) -> Endpoint {
    endpoint
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
}

struct Calls {
    made: u32,
    failed: u32,
    most_memory: u64,
}

/// Somebody who means well, and who looks at the server's memory.
async fn calls_until(over: CancellationToken, channel: Channel, server: u32) -> Calls {
    const ENOUGH: u32 = 200;
    let mut calls = Calls { made: 0, failed: 0, most_memory: 0 };
    let mut client = UnaryServiceClient::new(channel);
    while !over.is_cancelled() || calls.made < ENOUGH {
        let mut request = tonic::Request::new(MultiplyRequest { a: 6, b: 7 });
        request.set_timeout(Duration::from_secs(5));
        calls.failed += u32::from(client.multiply(request).await.is_err());
        calls.made += 1;
        if calls.made.is_multiple_of(16) {
            calls.most_memory = calls.most_memory.max(memory(server));
        }
    }
    calls
}

/// Resident, in bytes.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("no VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A message as it is on the wire.
pub(crate) fn message(message: &impl prost::Message) -> Bytes {
    let message = message.encode_to_vec();
    [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat().into()
}

/// The request for endless quotes.
pub(crate) fn quotes(interval: Duration) -> Bytes {
    message(&WatchQuotesRequest { interval: interval.try_into().ok(), ..WatchQuotesRequest::default() })
}

/// A connection that makes calls.
pub(crate) struct RawPeer {
    address: SocketAddr,
    client: h2::client::SendRequest<Bytes>,
}

/// With a window of so many bytes for each call.
pub(crate) async fn peer(address: SocketAddr, window: u32) -> RawPeer {
    let socket = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (client, connection) = builder.initial_window_size(window).handshake(socket).await.unwrap();
    tokio::spawn(connection);
    RawPeer { address, client }
}

impl RawPeer {
    async fn begin(&mut self, path: &str, more: &[(&str, &str)]) -> RawCall {
        let request = http::Request::post(format!("http://{}{path}", self.address));
        let request = request.header("te", "trailers").header("content-type", "application/grpc");
        let request = more.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let mut client = self.client.clone().ready().await.unwrap();
        let (response, request) = client.send_request(request.body(()).unwrap(), false).unwrap();
        RawCall { request, response: Some(response), _connection: client }
    }

    /// A call that sends this.
    pub(crate) async fn call(&mut self, path: &str, sent: &Bytes, last: bool) -> RawCall {
        let mut call = self.begin(path, &[]).await;
        call.request.send_data(sent.clone(), last).unwrap();
        call
    }
}

/// A call whose responses are not read unless asked for.
pub(crate) struct RawCall {
    request: h2::SendStream<Bytes>,
    response: Option<h2::client::ResponseFuture>,
    _connection: h2::client::SendRequest<Bytes>,
}

/// A call on a connection of its own.
pub(crate) async fn raw_call(address: SocketAddr, path: &str, more: &[(&str, &str)]) -> RawCall {
    peer(address, 65_535).await.begin(path, more).await
}

impl RawCall {
    pub(crate) fn send(&mut self, bytes: Bytes) {
        // Fails when the call has ended, which its answer tells.
        let _ = self.request.send_data(bytes, false);
    }

    /// A frame of its own; without a window for it nothing. False when the call
    /// has ended.
    pub(crate) fn try_send(&mut self, bytes: Bytes) -> bool {
        self.request.reserve_capacity(bytes.len());
        match self.request.capacity() < bytes.len() {
            true => true,
            false => self.request.send_data(bytes, false).is_ok(),
        }
    }

    /// Waits until it is over, without reading.
    pub(crate) async fn over(mut self) {
        let Ok(response) = self.response.take().unwrap().await else { return };
        let mut body = response.into_body();
        while let Some(Ok(_)) = body.data().await {}
    }

    /// The status; `None` when it was refused below gRPC.
    pub(crate) async fn code(mut self) -> Option<Code> {
        let _ = self.request.send_data(Bytes::new(), true);
        let response = self.response.take()?.await.ok()?;
        if let Some(status) = Status::from_header_map(response.headers()) {
            return Some(status.code());
        }
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data.ok()?.len()).ok()?;
        }
        let trailers = poll_fn(|cx| body.poll_trailers(cx)).await.ok()??;
        Status::from_header_map(&trailers).map(|status| status.code())
    }
}

mod learnt;

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use shared_proto::{
    bytestream::{ReadRequest, byte_stream_client::ByteStreamClient},
    fourmodes::v1::{
        MultiplyRequest, WatchQuotesRequest, server_streaming_service_client::ServerStreamingServiceClient,
        unary_service_client::UnaryServiceClient,
    },
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    server::NamedService,
    transport::{self, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{Session, lock};
use crate::{
    cli::Cli,
    config::{Config, Lookup},
    failure::Failure,
    scenario::Scenario as _,
    scenarios::client_streaming::upload::{self, Upload},
    show,
};

/// For what takes far less on any machine.
const LONG: Duration = Duration::from_secs(30);

/// A server on threads of its own, until it is dropped.
struct Server {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    fn start() -> Self {
        Self::running(SocketAddr::from(([127, 0, 0, 1], 0)), |listener| async {
            let served = server::serve(listener, server::config::Config::default(), std::future::pending());
            served.await.unwrap();
        })
    }

    /// A server that answers every unary call in one way, and says something
    /// about its health, if anything.
    fn answering(
        answer: fn() -> http::Response<Body>,
        health: Option<ServingStatus>,
    ) -> (Self, Arc<AtomicUsize>) {
        Self::answering_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer, health)
    }

    fn answering_at(
        address: SocketAddr,
        answer: fn() -> http::Response<Body>,
        health: Option<ServingStatus>,
    ) -> (Self, Arc<AtomicUsize>) {
        let calls = Arc::<AtomicUsize>::default();
        let service = Answering { answer, calls: calls.clone() };
        let server = Self::running(address, move |listener| async move {
            let mut router = transport::Server::builder().add_service(service);
            if let Some(status) = health {
                let (reporter, service) = tonic_health::server::health_reporter();
                HealthReporter::set_service_status(&reporter, "", status).await;
                router = router.add_service(service);
            }
            router.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        (server, calls)
    }

    /// Keeps its thread busy, like a process that was stopped: the kernel takes
    /// connections for it, and nobody answers. Until what comes back is dropped.
    fn hang(&self) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel();
        let (hang, hangs) = mpsc::channel();
        self.runtime.as_ref().unwrap().spawn(async move {
            hang.send(()).unwrap();
            let _ = released.recv();
        });
        hangs.recv().unwrap();
        release
    }

    fn running<F: Future<Output = ()> + Send + 'static>(
        address: SocketAddr,
        serve: impl FnOnce(TcpListener) -> F + Send + 'static,
    ) -> Self {
        // One thread is enough, and it makes a server that can hang.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { serve(TcpListener::from_std(listener).unwrap()).await });
        Self { address, runtime: Some(runtime) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

#[derive(Clone)]
struct Answering {
    answer: fn() -> http::Response<Body>,
    calls: Arc<AtomicUsize>,
}

impl NamedService for Answering {
    const NAME: &'static str = "fourmodes.v1.UnaryService";
}

impl tower::Service<http::Request<Body>> for Answering {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, SeqCst);
        std::future::ready(Ok((self.answer)()))
    }
}

fn unavailable_but_come_at_once() -> http::Response<Body> {
    let mut status = Status::unavailable("for good");
    status.metadata_mut().insert("grpc-retry-pushback-ms", "0".parse().unwrap());
    status.into_http()
}

async fn session(servers: &[&Server]) -> Session {
    session_for("1min", servers).await
}

async fn session_for(deadline: &str, servers: &[&Server]) -> Session {
    open(&config_for(deadline, servers)).await
}

fn config_for(deadline: &str, servers: &[&Server]) -> Config {
    let servers: Vec<_> = servers.iter().map(|server| server.address.to_string()).collect();
    let arguments = format!("fourmodes -q --deadline {deadline} --server {} unary status", servers.join(","));
    let cli = Cli::read(arguments.split(' ')).unwrap();
    Config::of_calls(cli.options).unwrap()
}

async fn open(config: &Config) -> Session {
    Session::open(config, &show::timeline(config, config.quiet, false).unwrap()).await.unwrap()
}

async fn multiply(session: &Session) -> Result<i64, Failure> {
    let request = MultiplyRequest { a: 6, b: 7 };
    let response = session.unary(request, async |mut client, request| client.multiply(request).await).await;
    response.map(|response| response.product)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_to_all_servers_in_turn() {
    let servers: Vec<_> =
        (0..3).map(|_| Server::answering(|| Status::not_found("no").into_http(), None)).collect();
    let session = session(&servers.iter().map(|(server, _)| server).collect::<Vec<_>>()).await;
    for _ in 0..30 {
        assert!(multiply(&session).await.unwrap_err().is_status(Code::NotFound));
    }
    let calls: Vec<_> = servers.iter().map(|(_, calls)| calls.load(SeqCst)).collect();
    assert_eq!(calls, [10, 10, 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_costs_no_call_and_has_its_turn_when_it_is_back() {
    let (one, two, three) = (Server::start(), Server::start(), Server::start());
    let session = session(&[&one, &two, &three]).await;
    let calls = async |count| {
        for call in 0..count {
            assert_eq!(multiply(&session).await.ok(), Some(42), "call {call}");
        }
    };
    calls(30).await;
    let address = two.address;
    drop(two);
    calls(300).await;
    // By what it answers it is known to be asked.
    let _back = Server::answering_at(address, || Status::not_found("back").into_http(), None);
    until_it_is_asked(&session).await;
    assert_eq!(multiply(&session).await.ok(), Some(42));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_costs_no_call_and_has_its_turn_when_it_answers_again() {
    let (one, two) = (Server::start(), Server::start());
    let with = async |deadline| {
        // By what it answers it is known to be asked.
        let (hung, _) =
            Server::answering(|| Status::not_found("me").into_http(), Some(ServingStatus::Serving));
        let session = session_for(deadline, &[&one, &two, &hung]).await;
        until_it_is_asked(&session).await;
        let hangs = hung.hang();
        let calls = async || {
            for _ in 0..200 {
                assert_eq!(multiply(&session).await.ok(), Some(42));
            }
        };
        tokio::join!(calls(), calls(), calls());
        drop(hangs);
        until_it_is_asked(&session).await;
    };
    tokio::join!(with("1min"), with("15s"));
}

async fn until_it_is_asked(session: &Session) {
    let begun = Instant::now();
    while let Ok(product) = multiply(session).await {
        assert_eq!(product, 42);
        assert!(begun.elapsed() < LONG, "the server gets no calls");
    }
}

/// A server that is asked to end finishes its calls; what comes too late for it
/// goes to the other one.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_restarted_one_after_the_other_cost_no_call() {
    let start = |address| {
        let (stop, (ended, has_ended)) = (CancellationToken::new(), oneshot::channel());
        let stopped = stop.clone();
        let server = Server::running(address, |listener| async move {
            let config = server::config::Config::default();
            server::serve(listener, config, stopped.cancelled_owned()).await.unwrap();
            ended.send(()).unwrap();
        });
        (server, stop, has_ended)
    };
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut servers = [start(anywhere), start(anywhere)];
    let session = session(&[&servers[0].0, &servers[1].0]).await;
    let (made, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let calls = async || {
        while !over.load(SeqCst) {
            assert_eq!(multiply(&session).await.ok(), Some(42));
            made.fetch_add(1, SeqCst);
        }
    };
    let restarts = async {
        for restart in 0..20 {
            let before = made.load(SeqCst);
            while made.load(SeqCst) < before + 50 {
                tokio::task::yield_now().await;
            }
            let [one, other] = &mut servers;
            let server = if restart % 2 == 0 { one } else { other };
            let address = server.0.address;
            server.1.cancel();
            (&mut server.2).await.unwrap();
            *server = start(address);
        }
        over.store(true, SeqCst);
    };
    tokio::join!(calls(), calls(), calls(), restarts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_serve_gets_no_calls() {
    let good = Server::start();
    let (drained, calls) =
        Server::answering(|| Status::internal("drained").into_http(), Some(ServingStatus::NotServing));
    for _ in 0..10 {
        let session = session(&[&good, &drained]).await;
        for _ in 0..10 {
            assert_eq!(multiply(&session).await.ok(), Some(42));
        }
    }
    assert_eq!(calls.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_one_server_cannot_take_is_taken_by_another_at_once() {
    let good = Server::start();
    let (bad, calls) =
        Server::answering(|| Status::unavailable("too busy").into_http(), Some(ServingStatus::Serving));
    let session = session(&[&good, &bad]).await;
    for _ in 0..100 {
        assert_eq!(multiply(&session).await.ok(), Some(42));
    }
    let calls = calls.load(SeqCst);
    assert!((1..10).contains(&calls), "{calls} calls to a server that is left out after each");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_fail_use_up_what_there_is_for_further_attempts() {
    let (server, calls) = Server::answering(unavailable_but_come_at_once, None);
    let session = session(&[&server]).await;
    let mut attempts = Vec::new();
    for _ in 0..3 {
        multiply(&session).await.unwrap_err();
        attempts.push(calls.swap(0, SeqCst));
    }
    assert_eq!(attempts, [5, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_nobody_reads_hold_up_no_unary_call() {
    let server = Server::start();
    let session = session(&[&server]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, vec![7; 2 << 20]).unwrap();
    let upload = Upload { file, name: None, chunk: 256 << 10 };
    upload.run(&session, &mut upload::Report::default()).await.unwrap();
    // More than the window of a connection takes, and each more than a stream's.
    let mut unread = Vec::new();
    for _ in 0..32 {
        let request = ReadRequest { resource_name: "files/file".to_owned(), read_offset: 0, read_limit: 0 };
        let mut client = ByteStreamClient::new(session.channel());
        unread.push(client.read(session.request(request, None)).await.unwrap().into_inner());
    }
    for _ in 0..200 {
        assert_eq!(multiply(&session).await.ok(), Some(42));
    }
}

fn begun_and_no_more() -> http::Response<Body> {
    let answer = http::Response::builder().header("content-type", "application/grpc");
    let body = StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, Status>>());
    answer.body(Body::new(body)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_heartbeats_that_stands_still_is_lost_too() {
    let (server, _) = Server::answering(begun_and_no_more, None);
    let mut config = config_for("1min", &[&server]);
    config.standstill = Duration::from_millis(200);
    let session = open(&config).await;
    let mut client = UnaryServiceClient::new(session.channel());
    let request = session.request(MultiplyRequest { a: 6, b: 7 }, None);
    let failure = Failure::from(client.multiply(request).await.unwrap_err());
    assert!(failure.may_be_tried_again(), "{failure:?}");
    assert_eq!(failure.message(), "nothing has come for 200ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_begins_and_does_not_come_is_given_up_and_its_server_left_out() {
    let (server, _) = Server::answering(begun_and_no_more, None);
    let session = session_for("500ms", &[&server]).await;
    let before = Instant::now();
    assert!(multiply(&session).await.unwrap_err().is_status(Code::DeadlineExceeded));
    assert!(!lock(&session.network.servers).has_one(before));
}

/// The addresses of names, for all tests of this file: each has a name of its own.
static NAMES: Mutex<Option<HashMap<String, Vec<SocketAddr>>>> = Mutex::new(None);

/// Gives a name these servers.
fn name(name: &str, servers: &[&Server]) {
    let addresses = servers.iter().map(|server| server.address).collect();
    NAMES.lock().unwrap().get_or_insert_default().insert(name.to_owned(), addresses);
}

fn config_of_name(name: &str, every: Duration) -> Config {
    let arguments = format!("fourmodes -q --deadline 1min --server dns:///{name} unary status");
    let mut config = Config::of_calls(Cli::read(arguments.split(' ')).unwrap().options).unwrap();
    let find = |server: http::Uri| -> crate::config::Addresses {
        let names = NAMES.lock().unwrap();
        let addresses = names.as_ref().and_then(|names| names.get(server.host()?)).cloned();
        Box::pin(std::future::ready(Ok(addresses.unwrap_or_default())))
    };
    config.lookup = Lookup { find, every };
    config
}

const OFTEN: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread")]
async fn each_address_of_a_name_is_a_server_and_new_calls_follow_the_name() {
    let servers = [(); 3].map(|()| Server::answering(|| Status::not_found("no").into_http(), None));
    let [one, two, three] = servers.each_ref().map(|(server, _)| server);
    let calls = || servers.each_ref().map(|(_, calls)| calls.load(SeqCst));
    name("many", &[one, two]);
    let session = open(&config_of_name("many", OFTEN)).await;
    let ten_calls = async || {
        for _ in 0..10 {
            assert!(multiply(&session).await.unwrap_err().is_status(Code::NotFound));
        }
    };
    ten_calls().await;
    assert_eq!(calls(), [5, 5, 0]);
    name("many", &[two, three]);
    let begun = Instant::now();
    while calls()[2] == 0 {
        ten_calls().await;
        assert!(begun.elapsed() < LONG, "the new address gets no calls");
    }
    let before = calls();
    ten_calls().await;
    assert_eq!(calls(), [before[0], before[1] + 5, before[2] + 5]);
    // A name that is unknown for a while keeps its addresses.
    name("many", &[]);
    for _ in 0..10 {
        tokio::time::sleep(OFTEN).await;
        ten_calls().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_again_when_its_server_fails() {
    let (one, two) = (Server::start(), Server::start());
    name("moves", &[&one]);
    let session = open(&config_of_name("moves", Duration::from_secs(3_600))).await;
    assert_eq!(multiply(&session).await.ok(), Some(42));
    name("moves", &[&two]);
    drop(one);
    for _ in 0..10 {
        assert_eq!(multiply(&session).await.ok(), Some(42));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_at_an_address_that_its_name_no_longer_has() {
    let (one, two) = (Server::start(), Server::start());
    name("drained", &[&one]);
    let session = open(&config_of_name("drained", OFTEN)).await;
    let home = lock(&session.channels).home;
    let request = WatchQuotesRequest {
        interval: Some(Duration::from_millis(1).try_into().unwrap()),
        ..Default::default()
    };
    let mut client = ServerStreamingServiceClient::new(session.channel());
    let mut quotes = client.watch_quotes(session.request(request, None)).await.unwrap().into_inner();
    quotes.message().await.unwrap().unwrap();
    name("drained", &[&two]);
    let begun = Instant::now();
    while session.network.has(home) {
        tokio::time::sleep(OFTEN).await;
        assert!(begun.elapsed() < LONG, "the old address remains");
    }
    for _ in 0..100 {
        quotes.message().await.unwrap().unwrap();
    }
    assert_eq!(multiply(&session).await.ok(), Some(42));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_an_address_is_said_to_have_none() {
    let config = config_of_name("nothing", OFTEN);
    let timeline = show::timeline(&config, true, false).unwrap();
    let failure = Session::open(&config, &timeline).await.map(|_| ()).unwrap_err();
    assert_eq!(failure.message(), "the name has no address");
}

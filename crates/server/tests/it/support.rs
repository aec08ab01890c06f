//! A server to test, in this process or as the binary, and clients for it.

use std::{
    net::SocketAddr,
    panic::Location,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use grpc_wire::Mode;
use prost::Message;
use server::config::Config;
use shared_proto::fourmodes::v1::{
    ChatRequest, ChatResponse, GetStatusRequest, JoinRoom, ModeStatus, MultiplyRequest, MultiplyResponse,
    PostText, Quote, RecordReadingsRequest, RoomEvent, WatchQuotesRequest, WatchQuotesResponse,
    bidi_streaming_service_client::BidiStreamingServiceClient, chat_request::Action, chat_response,
    client_streaming_service_client::ClientStreamingServiceClient, room_event::Event,
    server_streaming_service_client::ServerStreamingServiceClient, unary_service_client::UnaryServiceClient,
    watch_quotes_response,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status, Streaming,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

/// How long anything may take that is expected to happen at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a test may take as a whole, on a machine that is busy.
const WHOLE_TEST: Duration = Duration::from_secs(60);

/// A grace period that no test waits for.
pub(crate) const LONG_GRACE: Duration = Duration::from_secs(600);

/// Runs a test on threads of its own, as the binary does.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ended = runtime.block_on(async { timeout(WHOLE_TEST, test).await });
    ended.expect("the test does not come to an end");
}

#[track_caller]
pub(crate) fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        let done = timeout(PATIENCE, future).await;
        done.unwrap_or_else(|_| panic!("still waiting after {PATIENCE:?}: {caller}"))
    }
}

/// Asks again and again until the answer is yes.
#[track_caller]
pub(crate) fn until(mut condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    within(async move {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
}

/// Takes all the room that a disk has left, until it is removed.
pub(crate) fn fill(disk: &std::path::Path) -> std::path::PathBuf {
    let filler = disk.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let full = loop {
        if let Err(error) = std::io::Write::write_all(&mut file, &[1; 1 << 16]) {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    filler
}

/// A server in this process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn serving(modes: impl Into<Vec<Mode>>) -> Self {
        Self::with(Config { modes: modes.into(), ..Config::default() }).await
    }

    pub(crate) async fn with_grace(grace: Duration) -> Self {
        Self::with(Config { grace, ..Config::default() }).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(server::serve(listener, config, shutdown.clone().cancelled_owned()));
        Self { address, shutdown, serving }
    }

    pub(crate) fn begin_shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Drops the future that serves.
    pub(crate) fn dropped(self) {
        self.serving.abort();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.serving.is_finished()
    }

    #[track_caller]
    pub(crate) fn ended(self) -> impl Future<Output = ()> {
        let ended = within(self.serving);
        async { ended.await.unwrap().unwrap() }
    }
}

/// The binary. Killed, if it still runs, when this is dropped.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    child: Child,
    stdout: BufReader<ChildStdout>,
    first_line: String,
    stderr: Arc<Mutex<String>>,
}

impl Process {
    /// Listens on a free port.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let mut command = binary(arguments);
        command.env("FOURMODES_LISTEN", "127.0.0.1:0");
        Self::spawn(command).await
    }

    /// Likewise, with its state in a directory.
    pub(crate) async fn with_data(directory: &std::path::Path) -> Self {
        let mut command = binary(&["all"]);
        command.env("FOURMODES_LISTEN", "127.0.0.1:0").env("FOURMODES_DATA_DIR", directory);
        Self::spawn(command).await
    }

    /// Likewise, the directory being a disk of its own and of a size such as `24m`,
    /// for the server alone. With the place where a test sees it. Nothing where
    /// a test may not have a disk.
    #[allow(clippy::print_stderr, reason = "tells what was not tested")]
    pub(crate) async fn on_disk(
        size: &str,
        directory: &std::path::Path,
    ) -> Option<(Self, std::path::PathBuf)> {
        let mount = "mount -t tmpfs -o size=$1 tmpfs \"$2\" && shift 2 && exec \"$@\"";
        let mut isolated = Command::new("unshare");
        isolated.args(["--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", size]).arg(directory);
        let isolated = isolated.into_std();
        let with = |program: &std::process::Command| {
            let mut command = std::process::Command::new(isolated.get_program());
            command.args(isolated.get_args()).arg(program.get_program()).args(program.get_args());
            command
        };
        if !with(&std::process::Command::new("true")).status().is_ok_and(|status| status.success()) {
            eprintln!("skipped: no file system can be mounted here");
            return None;
        }
        let data = directory.join("data");
        let server = binary(&["all", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()]);
        let mut command = Command::from(with(server.as_std()));
        command.env("NO_COLOR", "1").kill_on_drop(true);
        let server = Self::spawn(command).await;
        // By way of the process that alone has it.
        let root = format!("/proc/{}/root", server.child.id().unwrap());
        let inside = std::path::Path::new(&root).join(directory.strip_prefix("/").unwrap());
        Some((server, inside))
    }

    pub(crate) async fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = Arc::<Mutex<String>>::default();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn({
            let stderr = stderr.clone();
            async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    stderr.lock().unwrap().extend([&line, "\n"]);
                }
            }
        });
        let mut first_line = String::new();
        within(stdout.read_line(&mut first_line)).await.unwrap();
        let address =
            first_line.trim_end().strip_prefix("listening on ").and_then(|url| url.split_once("://"));
        let address = address.and_then(|(_, address)| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("first line {first_line:?}"));
        Self { address, child, stdout, first_line, stderr }
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// Whether a line of the log has all of this in it, in quotes or not.
    pub(crate) fn logged(&self, texts: &[&str]) -> bool {
        let log = self.stderr.lock().unwrap().replace('"', "");
        log.lines().any(|line| texts.iter().all(|text| line.contains(text)))
    }

    pub(crate) fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Everything that went to stdout until it was killed.
    #[track_caller]
    pub(crate) fn killed(mut self) -> impl Future<Output = String> {
        self.child.start_kill().unwrap();
        let ended = self.ended();
        async { ended.await.1 }
    }

    /// The exit code and everything that went to stdout.
    #[track_caller]
    pub(crate) fn ended(mut self) -> impl Future<Output = (Option<i32>, String)> {
        within(async move {
            let status = self.child.wait().await.unwrap();
            self.stdout.read_to_string(&mut self.first_line).await.unwrap();
            (status.code(), self.first_line)
        })
    }
}

/// The binary with nothing from the environment that changes what it does.
pub(crate) fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fourmodes-server"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for variable in
        ["FOURMODES_LISTEN", "FOURMODES_GRACE", "FOURMODES_QUOTES_SEED", "FOURMODES_LOG_ROOT", "RUST_LOG"]
    {
        command.env_remove(variable);
    }
    command.env("FOURMODES_DATA_DIR", ":memory:").env("NO_COLOR", "1").env("COLUMNS", "100");
    command
}

/// A connection of its own for whoever asks.
pub(crate) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

pub(crate) fn unary(address: SocketAddr) -> UnaryServiceClient<Channel> {
    UnaryServiceClient::new(channel(address))
}

pub(crate) fn server_streaming(address: SocketAddr) -> ServerStreamingServiceClient<Channel> {
    ServerStreamingServiceClient::new(channel(address))
}

pub(crate) fn client_streaming(address: SocketAddr) -> ClientStreamingServiceClient<Channel> {
    ClientStreamingServiceClient::new(channel(address))
}

pub(crate) fn bidi_streaming(address: SocketAddr) -> BidiStreamingServiceClient<Channel> {
    BidiStreamingServiceClient::new(channel(address))
}

/// The first batch of a collection, without readings.
pub(crate) fn first_batch() -> RecordReadingsRequest {
    RecordReadingsRequest {
        producer_id: "p".to_owned(),
        device: "d".to_owned(),
        sequence: 1,
        readings: Vec::new(),
    }
}

/// A call that shows that the server still does what it is there for.
pub(crate) async fn assert_answers(address: SocketAddr) {
    let answer = within(unary(address).multiply(MultiplyRequest { a: 6, b: 7 })).await;
    assert_eq!(answer.unwrap().into_inner().product, 42);
}

pub(crate) async fn status_of(mode: Mode, address: SocketAddr) -> ModeStatus {
    let status = within(unary(address).get_status(GetStatusRequest {})).await.unwrap().into_inner();
    status.modes[mode as usize]
}

pub(crate) async fn open_calls(mode: Mode, address: SocketAddr) -> u64 {
    status_of(mode, address).await.calls_open
}

pub(crate) async fn refuses_connections(address: SocketAddr) -> bool {
    within(TcpStream::connect(address)).await.is_err()
}

/// A peer that has been accepted and never says a word.
pub(crate) async fn silent_peer(address: SocketAddr) -> TcpStream {
    let peer = within(TcpStream::connect(address)).await.unwrap();
    // Peers are accepted one after the other: this one comes after it.
    assert_answers(address).await;
    peer
}

/// A call to `Multiply` whose request goes out when the sender is used.
pub(crate) async fn multiplication_that_waits(
    address: SocketAddr,
) -> (oneshot::Sender<MultiplyRequest>, JoinHandle<Result<MultiplyResponse, Status>>) {
    let mut client = unary(address);
    let mut started = async || {
        let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        status.modes[Mode::Unary as usize].calls_started
    };
    let before = started().await;
    let (sender, request) = oneshot::channel();
    let answer = tokio::spawn(async move {
        let mut grpc = Grpc::new(channel(address));
        grpc.ready().await.unwrap();
        let request = async_stream::stream! {
            if let Ok(request) = request.await {
                yield request;
            }
        };
        let path = http::uri::PathAndQuery::from_static("/fourmodes.v1.UnaryService/Multiply");
        let codec = ProstCodec::default();
        let answer = grpc.client_streaming(Request::new(request), path, codec).await;
        answer.map(Response::into_inner)
    });
    let mut asked = 0;
    until(async || {
        asked += 1;
        started().await == before + asked + 1
    })
    .await;
    (sender, answer)
}

/// A call frame by frame, on a connection of its own.
pub(crate) struct RawCall {
    request: h2::SendStream<Bytes>,
    /// Once its head is there.
    response: Option<h2::RecvStream>,
    _connection: h2::client::SendRequest<Bytes>,
}

impl RawCall {
    /// Sends a message and comes back with the head of the response.
    pub(crate) async fn open(address: SocketAddr, path: &str, message: &impl Message, last: bool) -> Self {
        let (mut call, response) = Self::begin(address, path, &[]).await;
        call.request.send_data(frame(message).into(), last).unwrap();
        call.response = Some(within(response).await.unwrap().into_body());
        call
    }

    /// Sends the headers only.
    pub(crate) async fn begin(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (Self, h2::client::ResponseFuture) {
        let socket = within(TcpStream::connect(address)).await.unwrap();
        let (mut client, connection) = within(h2::client::handshake(socket)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post(format!("http://{address}{path}"));
        let request = request.header("te", "trailers").header("content-type", "application/grpc");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (response, request) = client.send_request(request.body(()).unwrap(), false).unwrap();
        (Self { request, response: None, _connection: client }, response)
    }

    /// The status of a call that our side does not end, with a message sent or
    /// without.
    pub(crate) async fn status(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
        message: Option<&impl Message>,
    ) -> Status {
        let (mut call, response) = Self::begin(address, path, headers).await;
        if let Some(message) = message {
            // Fails when the call has ended, which its answer tells.
            let _ = call.request.send_data(frame(message).into(), false);
        }
        let (head, mut body) = within(response).await.unwrap().into_parts();
        if let Some(status) = Status::from_header_map(&head.headers) {
            return status;
        }
        while let Some(data) = within(body.data()).await {
            body.flow_control().release_capacity(data.unwrap().len()).unwrap();
        }
        let trailers = within(body.trailers()).await.unwrap().expect("no trailers");
        Status::from_header_map(&trailers).expect("no status")
    }

    pub(crate) fn send(&mut self, message: &impl Message, last: bool) {
        self.request.send_data(frame(message).into(), last).unwrap();
    }

    /// Resets the stream, which is what a client that cancels does.
    pub(crate) fn cancel(self) {
        self.reset(h2::Reason::CANCEL);
    }

    pub(crate) fn reset(mut self, reason: h2::Reason) {
        self.request.send_reset(reason);
    }
}

/// With its prefix.
fn frame(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat()
}

/// Endless quotes of which the server has sent as many as it may to a client
/// that does not read.
pub(crate) async fn unread_quotes(address: SocketAddr) -> RawCall {
    const WINDOW: usize = 65_535;
    let path = "/fourmodes.v1.ServerStreamingService/WatchQuotes";
    let mut call = RawCall::open(address, path, &WatchQuotesRequest::default(), true).await;
    let mut received = 0;
    while received < WINDOW {
        // What is received and not released stays in the window.
        let response = call.response.as_mut().expect("no head");
        received += within(response.data()).await.unwrap().unwrap().len();
    }
    call
}

/// A member of the lobby that neither hears nor says any more.
pub(crate) async fn raw_member(address: SocketAddr, name: &str) -> RawCall {
    let join = JoinRoom { room: "lobby".to_owned(), name: name.to_owned(), ..JoinRoom::default() };
    let join = ChatRequest { action: Some(Action::Join(join)) };
    RawCall::open(address, "/fourmodes.v1.BidiStreamingService/Chat", &join, false).await
}

/// The quote of a response that is no heartbeat.
pub(crate) fn quote(response: WatchQuotesResponse) -> Quote {
    match response.event {
        Some(watch_quotes_response::Event::Quote(quote)) => quote,
        other => panic!("{other:?}"),
    }
}

/// How a stream ends that must not end with OK.
#[track_caller]
pub(crate) fn failure_of<T>(stream: &mut Streaming<T>) -> impl Future<Output = Status> {
    within(async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended with OK"),
                Err(status) => return status,
            }
        }
    })
}

/// The fields that a refusal names.
pub(crate) fn bad_fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let violations = status.get_details_bad_request().expect("no BadRequest").field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

/// The kind and the name of what is not there.
pub(crate) fn missing_resource(status: &Status) -> (String, String) {
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let resource = status.get_details_resource_info().expect("no ResourceInfo");
    (resource.resource_type, resource.resource_name)
}

/// The reason of a failure, which must be of this server's domain.
pub(crate) fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().expect("no ErrorInfo");
    assert_eq!(info.domain, "fourmodes");
    info.reason
}

/// A call to `Chat`, and what it hears as text: `3 ana: hello`.
pub(crate) struct Member {
    requests: Option<mpsc::Sender<ChatRequest>>,
    events: Streaming<ChatResponse>,
}

impl Member {
    /// Opens the call and says nothing.
    pub(crate) async fn silent(channel: Channel) -> Self {
        let (requests, receiver) = mpsc::channel(1);
        let mut client = BidiStreamingServiceClient::new(channel);
        let events = within(client.chat(ReceiverStream::new(receiver))).await.unwrap().into_inner();
        Self { requests: Some(requests), events }
    }

    /// Comes back when the room has said that it joined.
    pub(crate) async fn joined(address: SocketAddr, room: &str, name: &str) -> Self {
        let mut member = Self::silent(channel(address)).await;
        member.join(room, name).await;
        let heard = member.hear().await.unwrap();
        assert!(heard.contains(&format!("{name} joined")), "{heard}");
        member
    }

    pub(crate) async fn join(&self, room: &str, name: &str) {
        self.send(Some(Action::Join(JoinRoom {
            room: room.to_owned(),
            name: name.to_owned(),
            ..JoinRoom::default()
        })))
        .await;
    }

    pub(crate) async fn post(&self, text: &str) {
        self.send(Some(Action::Post(PostText { text: text.to_owned(), ..PostText::default() }))).await;
    }

    /// Posts until the call is over.
    pub(crate) fn posts_without_end(&mut self) -> JoinHandle<()> {
        let requests = self.requests.take().expect("half-closed");
        let post = Action::Post(PostText { text: "and".to_owned(), ..PostText::default() });
        tokio::spawn(async move {
            while requests.send(ChatRequest { action: Some(post.clone()) }).await.is_ok() {}
        })
    }

    pub(crate) async fn send(&self, action: Option<Action>) {
        let requests = self.requests.as_ref().expect("half-closed");
        within(requests.send(ChatRequest { action })).await.expect("the call is over");
    }

    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// `None` when the call ended with OK.
    pub(crate) async fn hear(&mut self) -> Option<String> {
        loop {
            let response = within(self.events.message()).await.unwrap()?.response;
            if let chat_response::Response::Event(event) = response.expect("an empty response") {
                return Some(shown(event));
            }
        }
    }

    pub(crate) async fn hear_until(&mut self, last: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|event: &String| !event.ends_with(last)) {
            heard.push(self.hear().await.expect("the call ended"));
        }
        heard
    }

    pub(crate) async fn hear_times(&mut self, times: usize) -> Vec<String> {
        let mut heard = Vec::new();
        for _ in 0..times {
            heard.push(self.hear().await.expect("the call ended"));
        }
        heard
    }

    pub(crate) async fn failure(&mut self) -> Status {
        failure_of(&mut self.events).await
    }
}

fn shown(RoomEvent { sequence, name, event, .. }: RoomEvent) -> String {
    match event.expect("no event") {
        Event::Joined(joined) => format!("{sequence} {name} joined {}", joined.members.join(", ")),
        Event::Left(_) => format!("{sequence} {name} left"),
        Event::Posted(posted) => format!("{sequence} {name}: {}", posted.text),
    }
}

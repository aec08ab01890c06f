//! Clients of a server that make calls, or send single frames.

use std::net::SocketAddr;

use bytes::Bytes;
use grpc_wire::Mode;
use prost::Message;
use shared_proto::fourmodes::v1::{
    ChatRequest, ChatResponse, GetStatusRequest, JoinRoom, ModeStatus, MultiplyRequest, MultiplyResponse,
    PostText, Quote, RecordReadingsRequest, RoomEvent, WatchQuotesRequest, WatchQuotesResponse,
    bidi_streaming_service_client::BidiStreamingServiceClient, chat_request::Action, chat_response,
    client_streaming_service_client::ClientStreamingServiceClient, room_event::Event,
    server_streaming_service_client::ServerStreamingServiceClient, unary_service_client::UnaryServiceClient,
    watch_quotes_response,
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::{until, within};

/// A new connection.
pub fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// A client of `UnaryService`.
pub fn unary(address: SocketAddr) -> UnaryServiceClient<Channel> {
    UnaryServiceClient::new(channel(address))
}

/// A client of `ServerStreamingService`.
pub fn server_streaming(address: SocketAddr) -> ServerStreamingServiceClient<Channel> {
    ServerStreamingServiceClient::new(channel(address))
}

/// A client of `ClientStreamingService`.
pub fn client_streaming(address: SocketAddr) -> ClientStreamingServiceClient<Channel> {
    ClientStreamingServiceClient::new(channel(address))
}

/// A client of `BidiStreamingService`.
pub fn bidi_streaming(address: SocketAddr) -> BidiStreamingServiceClient<Channel> {
    BidiStreamingServiceClient::new(channel(address))
}

/// The first batch of a collection, without readings.
pub fn first_batch() -> RecordReadingsRequest {
    RecordReadingsRequest {
        producer_id: "p".to_owned(),
        device: "d".to_owned(),
        sequence: 1,
        readings: Vec::new(),
    }
}

/// Makes a call to show that the server still works.
pub async fn assert_answers(address: SocketAddr) {
    let answer = within(unary(address).multiply(MultiplyRequest { a: 6, b: 7 })).await;
    assert_eq!(answer.unwrap().into_inner().product, 42);
}

/// The status of a mode, by `GetStatus`.
pub async fn status_of(mode: Mode, address: SocketAddr) -> ModeStatus {
    let status = within(unary(address).get_status(GetStatusRequest {})).await.unwrap().into_inner();
    status.modes[mode as usize]
}

/// How many calls of a mode are open.
pub async fn open_calls(mode: Mode, address: SocketAddr) -> u64 {
    status_of(mode, address).await.calls_open
}

/// Whether nothing listens at the address.
pub async fn refuses_connections(address: SocketAddr) -> bool {
    within(TcpStream::connect(address)).await.is_err()
}

/// A peer that was accepted and sends nothing.
pub async fn silent_peer(address: SocketAddr) -> TcpStream {
    let peer = within(TcpStream::connect(address)).await.unwrap();
    // Peers are accepted in order, and this call connects after the peer.
    assert_answers(address).await;
    peer
}

/// A call to `Multiply` that sends its request when the sender is used.
pub async fn multiplication_that_waits(
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

/// A call made of single frames, on a connection of its own.
pub struct RawCall {
    request: h2::SendStream<Bytes>,
    /// Set once the headers have arrived.
    response: Option<h2::RecvStream>,
    _connection: h2::client::SendRequest<Bytes>,
}

impl RawCall {
    /// Sends a message, and returns when the headers of the response have arrived.
    pub async fn open(address: SocketAddr, path: &str, message: &impl Message, last: bool) -> Self {
        let (mut call, response) = Self::begin(address, path, &[]).await;
        call.request.send_data(frame(message).into(), last).unwrap();
        call.response = Some(within(response).await.unwrap().into_body());
        call
    }

    /// Sends only the headers.
    pub async fn begin(
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

    /// The status of a call that our side does not end. `message` is sent, if there is
    /// one.
    pub async fn status(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
        message: Option<&impl Message>,
    ) -> Status {
        let (mut call, response) = Self::begin(address, path, headers).await;
        if let Some(message) = message {
            // Fails when the call has ended; the response then says why.
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

    /// Sends a message, which may be the last one.
    pub fn send(&mut self, message: &impl Message, last: bool) {
        self.request.send_data(frame(message).into(), last).unwrap();
    }

    /// Resets the stream, like a client that cancels.
    pub fn cancel(self) {
        self.reset(h2::Reason::CANCEL);
    }

    /// Resets the stream with a reason.
    pub fn reset(mut self, reason: h2::Reason) {
        self.request.send_reset(reason);
    }
}

/// A message with its prefix.
fn frame(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat()
}

/// An endless stream of quotes to a client that does not read, of which the server has
/// sent as much as the window allows.
pub async fn unread_quotes(address: SocketAddr) -> RawCall {
    const WINDOW: usize = 65_535;
    let path = "/fourmodes.v1.ServerStreamingService/WatchQuotes";
    let mut call = RawCall::open(address, path, &WatchQuotesRequest::default(), true).await;
    let mut received = 0;
    while received < WINDOW {
        // What is received but not released still counts against the window.
        let response = call.response.as_mut().expect("no head");
        received += within(response.data()).await.unwrap().unwrap().len();
    }
    call
}

/// A member of the lobby that does not read or write any more.
pub async fn raw_member(address: SocketAddr, name: &str) -> RawCall {
    let join = JoinRoom { room: "lobby".to_owned(), name: name.to_owned(), ..JoinRoom::default() };
    let join = ChatRequest { action: Some(Action::Join(join)) };
    RawCall::open(address, "/fourmodes.v1.BidiStreamingService/Chat", &join, false).await
}

/// The quote of a response; panics on a heartbeat.
pub fn quote(response: WatchQuotesResponse) -> Quote {
    match response.event {
        Some(watch_quotes_response::Event::Quote(quote)) => quote,
        other => panic!("{other:?}"),
    }
}

/// The status of a stream that must not end with OK.
#[track_caller]
pub fn failure_of<T>(stream: &mut Streaming<T>) -> impl Future<Output = Status> {
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

/// The fields that a BadRequest names.
pub fn bad_fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let violations = status.get_details_bad_request().expect("no BadRequest").field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

/// The type and name of a missing resource.
pub fn missing_resource(status: &Status) -> (String, String) {
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let resource = status.get_details_resource_info().expect("no ResourceInfo");
    (resource.resource_type, resource.resource_name)
}

/// The reason of a failure, whose domain must be this server's.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().expect("no ErrorInfo");
    assert_eq!(info.domain, "fourmodes");
    info.reason
}

/// A call to `Chat` that returns its events as text: `3 ana: hello`.
pub struct Member {
    requests: Option<mpsc::Sender<ChatRequest>>,
    events: Streaming<ChatResponse>,
}

impl Member {
    /// Opens the call and sends nothing.
    pub async fn silent(channel: Channel) -> Self {
        let (requests, receiver) = mpsc::channel(1);
        let mut client = BidiStreamingServiceClient::new(channel);
        let events = within(client.chat(ReceiverStream::new(receiver))).await.unwrap().into_inner();
        Self { requests: Some(requests), events }
    }

    /// Returns when the room has confirmed that the member joined.
    pub async fn joined(address: SocketAddr, room: &str, name: &str) -> Self {
        let mut member = Self::silent(channel(address)).await;
        member.join(room, name).await;
        let heard = member.hear().await.unwrap();
        assert!(heard.contains(&format!("{name} joined")), "{heard}");
        member
    }

    /// Joins a room.
    pub async fn join(&self, room: &str, name: &str) {
        self.send(Some(Action::Join(JoinRoom {
            room: room.to_owned(),
            name: name.to_owned(),
            ..JoinRoom::default()
        })))
        .await;
    }

    /// Posts a text to the room.
    pub async fn post(&self, text: &str) {
        self.send(Some(Action::Post(PostText { text: text.to_owned(), ..PostText::default() }))).await;
    }

    /// Posts until the call is over.
    pub fn posts_without_end(&mut self) -> JoinHandle<()> {
        let requests = self.requests.take().expect("half-closed");
        let post = Action::Post(PostText { text: "and".to_owned(), ..PostText::default() });
        tokio::spawn(async move {
            while requests.send(ChatRequest { action: Some(post.clone()) }).await.is_ok() {}
        })
    }

    /// Sends a request, which may be empty.
    pub async fn send(&self, action: Option<Action>) {
        let requests = self.requests.as_ref().expect("half-closed");
        within(requests.send(ChatRequest { action })).await.expect("the call is over");
    }

    /// Ends the requests.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next event; `None` when the call ended with OK.
    pub async fn hear(&mut self) -> Option<String> {
        loop {
            let response = within(self.events.message()).await.unwrap()?.response;
            if let chat_response::Response::Event(event) = response.expect("an empty response") {
                return Some(shown(event));
            }
        }
    }

    /// All events up to one that ends with `last`.
    pub async fn hear_until(&mut self, last: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|event: &String| !event.ends_with(last)) {
            heard.push(self.hear().await.expect("the call ended"));
        }
        heard
    }

    /// The next `times` events.
    pub async fn hear_times(&mut self, times: usize) -> Vec<String> {
        let mut heard = Vec::new();
        for _ in 0..times {
            heard.push(self.hear().await.expect("the call ended"));
        }
        heard
    }

    /// The status with which the call fails.
    pub async fn failure(&mut self) -> Status {
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

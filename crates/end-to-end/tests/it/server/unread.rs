//! Peers that do not read what they asked for, or stop in the middle of what they
//! send: the limits of time hold for them, and so does the budget of memory.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use bytes::Bytes;
use grpc_wire::Mode;
use h2::client::SendRequest;
use http::HeaderMap;
use prost::Message;
use shared_proto::{
    fourmodes::v1::{MultiplyRequest, WatchQuotesRequest},
    testing::{
        Payload, ResponseParameters, SimpleRequest, StreamingInputCallRequest, StreamingOutputCallRequest,
        test_service_client::TestServiceClient,
    },
};
use stack::{Limits, Settings, Tokens};
use test_support::{
    LONG, Server, assert_answers, channel, client_streaming, first_batch, open_calls, run, until, within,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::server::auth::hash;

const QUOTES: &str = "/fourmodes.v1.ServerStreamingService/WatchQuotes";
const READINGS: &str = "/fourmodes.v1.ClientStreamingService/RecordReadings";
const UNARY: &str = "/grpc.testing.TestService/UnaryCall";
const GRPC: (&str, &str) = ("content-type", "application/grpc");
const SHORT: Duration = Duration::from_millis(200);

async fn with(limits: Limits) -> Server {
    Server::with(Settings { limits, ..Settings::default() }.into()).await
}

/// A connection of HTTP/2 whose streams have a window of so many bytes.
async fn peer(address: SocketAddr, window: u32) -> SendRequest<Bytes> {
    let socket = within(TcpStream::connect(address)).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(16 << 20);
    let (peer, connection) = within(builder.handshake(socket)).await.unwrap();
    tokio::spawn(connection);
    peer
}

fn frame(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat().into()
}

fn of_size(bytes: i32) -> Bytes {
    frame(&SimpleRequest { response_size: bytes, ..SimpleRequest::default() })
}

/// A call that sends this, and whose responses nobody reads.
struct Unread {
    /// A stream whose requests are not ended goes on as long as this is there.
    _request: h2::SendStream<Bytes>,
    response: h2::client::ResponseFuture,
}

async fn call(peer: &SendRequest<Bytes>, path: &str, headers: &[(&str, &str)], sent: Bytes) -> Unread {
    let request = http::Request::post(format!("http://localhost{path}")).header("te", "trailers");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let mut peer = within(peer.clone().ready()).await.unwrap();
    let (response, mut request) = peer.send_request(request.body(()).unwrap(), false).unwrap();
    request.send_data(sent, path != READINGS).unwrap();
    Unread { _request: request, response }
}

impl Unread {
    /// The reason of its reset, or the status that came without a window for data.
    async fn ended(self) -> Result<Status, h2::Error> {
        let (head, mut body) = within(self.response).await?.into_parts();
        let of = |headers: &HeaderMap| Status::from_header_map(headers);
        if let Some(status) = of(&head.headers) {
            return Ok(status);
        }
        // What is not released stays in the window.
        while let Some(data) = within(body.data()).await {
            data?;
        }
        Ok(of(&within(body.trailers()).await?.expect("no trailers")).expect("no status"))
    }
}

#[test]
fn a_call_ends_in_its_time_whether_or_not_its_peer_reads() {
    run(async {
        let idle = with(Limits { idle: SHORT, ..Limits::default() }).await;
        let old = with(Limits { age: SHORT, ..Limits::default() }).await;
        let unary = with(Limits { unary_deadline: SHORT, ..Limits::default() }).await;
        let capped = with(Limits { max_unary_deadline: SHORT, ..Limits::default() }).await;
        let default = Server::start().await;
        let quotes = || frame(&WatchQuotesRequest::default());
        let web = ("content-type", "application/grpc-web+proto");
        let mut calls = Vec::new();
        // With a window of one byte HTTP/2 takes a whole chunk.
        for (window, kind) in [(0, GRPC), (1, GRPC), (5_000, GRPC), (0, web), (1, web)] {
            for (server, path, timeout, sent) in [
                (&idle, QUOTES, None, quotes()),
                (&old, QUOTES, None, quotes()),
                (&default, QUOTES, Some("200m"), quotes()),
                (&unary, UNARY, None, of_size(1 << 20)),
                (&unary, UNARY, None, of_size(20 << 10)),
                (&capped, UNARY, Some("99999999H"), of_size(1 << 20)),
                (&default, UNARY, Some("200m"), of_size(1 << 20)),
            ] {
                let peer = peer(server.address, window).await;
                let timeout = timeout.map(|timeout| ("grpc-timeout", timeout));
                let headers: Vec<_> = [kind].into_iter().chain(timeout).collect();
                let call = call(&peer, path, &headers, sent).await;
                calls.push((call, peer, format!("{path} {window} {kind:?}")));
            }
        }
        for (call, _peer, name) in calls {
            let reason = call.ended().await.expect_err("it came to its end").reason();
            assert_eq!(reason, Some(h2::Reason::CANCEL), "{name}");
        }
        for server in [&idle, &old, &unary, &capped, &default] {
            until(async || open_calls(Mode::ServerStreaming, server.address).await == 0).await;
            // The one that asks.
            until(async || open_calls(Mode::Unary, server.address).await == 1).await;
        }
    });
}

/// By gRPC-Web over HTTP/1.1, where the connection drives the call.
#[test]
fn so_does_a_call_over_http_1_1() {
    run(async {
        let idle = with(Limits { idle: SHORT, ..Limits::default() }).await;
        let old = with(Limits { age: SHORT, ..Limits::default() }).await;
        let default = Server::start().await;
        let mut peers = Vec::new();
        for (server, more) in [(&idle, ""), (&old, ""), (&default, "grpc-timeout: 200m\r\n")] {
            let socket = TcpSocket::new_v4().unwrap();
            // What fits into it counts as read.
            socket.set_recv_buffer_size(4 << 10).unwrap();
            let mut peer = within(socket.connect(server.address)).await.unwrap();
            let sizes = vec![ResponseParameters { size: 8 << 20, ..Default::default() }; 2];
            let body =
                frame(&StreamingOutputCallRequest { response_parameters: sizes, ..Default::default() });
            let head = format!(
                "POST /grpc.testing.TestService/StreamingOutputCall HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\n\
                 content-length: {}\r\n{more}\r\n",
                body.len(),
            );
            peer.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
            until(async || open_calls(Mode::ServerStreaming, server.address).await == 1).await;
            peers.push(peer);
        }
        for server in [&idle, &old, &default] {
            until(async || open_calls(Mode::ServerStreaming, server.address).await == 0).await;
        }
    });
}

/// Waits until so many of them, or more, are refused for what they hold, and gives
/// the others.
async fn others(calls: Vec<Unread>, refused: usize) -> Vec<JoinHandle<Result<Status, h2::Error>>> {
    let mut calls: Vec<_> = calls.into_iter().map(|call| tokio::spawn(call.ended())).collect();
    until(async || calls.iter().filter(|call| call.is_finished()).count() >= refused).await;
    for call in calls.extract_if(.., |call| call.is_finished()) {
        let status = call.await.unwrap().unwrap();
        let facts = status.get_details_error_info().expect("no ErrorInfo");
        assert_eq!((status.code(), facts.reason.as_str()), (Code::ResourceExhausted, "LIMIT_REACHED"));
        assert_eq!(facts.metadata["limit"], "max_buffered", "{status}");
    }
    calls
}

fn patient(buffered: usize) -> Limits {
    Limits { buffered, unary_deadline: LONG, max_unary_deadline: LONG, ..Limits::default() }
}

#[test]
fn responses_that_nobody_reads_have_a_budget() {
    run(async {
        let server = with(patient(16 << 20)).await;
        // One MiB, and what each call has for itself.
        let large = of_size((1 << 20) + (64 << 10));
        let mut peers = Vec::new();
        // A connection has a quarter of the budget, and five have all of it.
        for refused in [7, 7, 7, 7, 7, 10] {
            let peer = peer(server.address, 0).await;
            let mut calls = Vec::new();
            for _ in 0..10 {
                calls.push(call(&peer, UNARY, &[GRPC], large.clone()).await);
            }
            let held = others(calls, refused).await;
            assert_eq!(held.len(), 10 - refused);
            peers.push((peer, held));
        }
        assert_answers(server.address).await;
        // Who goes away gives back what is held.
        for (_, held) in peers {
            held.iter().for_each(JoinHandle::abort);
        }
        let reader = peer(server.address, 2 << 20).await;
        until(async || {
            let call = call(&reader, UNARY, &[GRPC], large.clone()).await;
            call.ended().await.unwrap().code() == Code::Ok
        })
        .await;
    });
}

/// However many connections it has, so that it leaves something to others.
#[test]
fn a_caller_has_half_of_the_budget() {
    run(async {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "greedy {} all\nmodest {} all\n", hash("a"), hash("b")).unwrap();
        let tokens = Some(Tokens::read(file.path()).unwrap());
        let server =
            Server::with(Settings { limits: patient(16 << 20), tokens, ..Settings::default() }.into());
        let server = server.await;
        let large = of_size((1 << 20) + (64 << 10));
        let mut peers = Vec::new();
        let [a, b] = ["Bearer a", "Bearer b"];
        for (token, refused) in [(a, 7), (a, 7), (a, 9), (a, 10), (b, 7)] {
            let peer = peer(server.address, 0).await;
            let mut calls = Vec::new();
            for _ in 0..10 {
                calls.push(call(&peer, UNARY, &[GRPC, ("authorization", token)], large.clone()).await);
            }
            let held = others(calls, refused).await;
            assert_eq!(held.len(), 10 - refused, "{token}");
            peers.push((peer, held));
        }
    });
}

#[test]
fn requests_that_are_not_complete_have_a_budget() {
    run(async {
        let server = with(patient(16 << 20)).await;
        let half: Bytes = [&[0, 0, 0x10, 0, 0][..], &vec![0; 512 << 10]].concat().into();
        let peer = peer(server.address, 1 << 20).await;
        let mut calls = Vec::new();
        for _ in 0..20 {
            calls.push(call(&peer, READINGS, &[GRPC], half.clone()).await);
        }
        // There is room for nine of them, at most.
        let held = others(calls, 11).await;
        assert_answers(server.address).await;
        client_streaming(server.address).record_readings(tokio_stream::once(first_batch())).await.unwrap();
        held.iter().for_each(JoinHandle::abort);
        until(async || open_calls(Mode::ClientStreaming, server.address).await == 0).await;
    });
}

/// What is read counts no longer, however much it comes to.
#[test]
fn a_peer_that_reads_may_have_more_than_the_budget() {
    run(async {
        let server = with(patient(16 << 20)).await;
        let sizes = vec![ResponseParameters { size: 1 << 20, ..Default::default() }; 40];
        let request = StreamingOutputCallRequest { response_parameters: sizes, ..Default::default() };
        let client = TestServiceClient::new(channel(server.address));
        let mut responses = client.clone().streaming_output_call(request).await.unwrap().into_inner();
        let mut count = 0;
        while within(responses.message()).await.unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 40);
        // Nor do messages that are complete.
        let payload = Some(Payload { body: vec![0; 1 << 20].into(), ..Payload::default() });
        let requests = vec![StreamingInputCallRequest { payload, ..Default::default() }; 40];
        let received = client.clone().streaming_input_call(tokio_stream::iter(requests)).await.unwrap();
        assert_eq!(received.into_inner().aggregated_payload_size, 40 << 20);
    });
}

/// Small calls hold nothing of the budgets, however many there are.
#[test]
fn a_budget_of_nothing_ends_no_small_call() {
    run(async {
        let server = with(Limits { buffered: 0, ..Limits::default() }).await;
        let peer = peer(server.address, 1 << 20).await;
        for _ in 0..10 {
            let request = frame(&MultiplyRequest { a: 6, b: 7 });
            let multiplied = call(&peer, "/fourmodes.v1.UnaryService/Multiply", &[GRPC], request);
            assert_eq!(multiplied.await.ended().await.unwrap().code(), Code::Ok);
        }
    });
}

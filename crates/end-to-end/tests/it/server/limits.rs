//! What a peer may take, and what it is told when it wants more.

use std::time::Duration;

use grpc_wire::Mode;
use shared_proto::fourmodes::v1::{
    ChatRequest, MultiplyRequest, RecordReadingsRequest, WatchQuotesRequest,
    unary_service_client::UnaryServiceClient,
};
use stack::{Limits, Settings};
use test_support::{
    Member, Program, RawCall, Server, assert_answers, client_streaming, failure_of,
    multiplication_that_waits, open_calls, raw_member, reason, refuses_connections, run, server_streaming,
    unary, until, within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

async fn with(limits: Limits) -> Server {
    Server::with(Settings { limits, ..Settings::default() }.into()).await
}

/// Says which limit, and when to come again.
#[track_caller]
fn assert_limit(status: &Status, code: Code, limit: &str) {
    assert_eq!((status.code(), reason(status).as_str()), (code, "LIMIT_REACHED"), "{status}");
    let facts = status.get_details_error_info().unwrap().metadata;
    assert_eq!(facts["limit"], limit, "{status}");
    assert!(facts.contains_key("value"), "{status}");
    if !["max_message", "max_headers"].contains(&limit) {
        assert!(status.get_details_retry_info().is_some(), "{status}");
    }
}

#[test]
fn a_connection_too_many_is_closed_and_takes_nobodys_place() {
    run(async {
        let server = with(Limits { connections: 2, ..Limits::default() }).await;
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        let ben = Member::joined(server.address, "lobby", "ben").await;
        let mut closed = within(TcpStream::connect(server.address)).await.unwrap();
        let _ = closed.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert!(matches!(within(closed.read(&mut [0])).await, Ok(0) | Err(_)));
        ana.post("still here").await;
        ana.hear_until("still here").await;
        drop(ben);
        until(async || !refuses_calls(&server).await).await;
    });
}

async fn refuses_calls(server: &Server) -> bool {
    unary(server.address).multiply(MultiplyRequest { a: 6, b: 7 }).await.is_err()
}

#[test]
fn who_says_nothing_or_stops_in_the_handshake_is_hung_up_on() {
    run(async {
        let short = Duration::from_millis(100);
        let server = with(Limits { first_byte: short, handshake: short, ..Limits::default() }).await;
        for said in [b"".as_slice(), b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut peer = within(TcpStream::connect(server.address)).await.unwrap();
            peer.write_all(said).await.unwrap();
            let _ = within(peer.read_to_end(&mut Vec::new())).await;
        }
        // Who has said hello may be quiet after it.
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        for _ in 0..4 {
            let mut peer = within(TcpStream::connect(server.address)).await.unwrap();
            let _ = within(peer.read_to_end(&mut Vec::new())).await;
        }
        ana.post("still here").await;
        ana.hear_until("still here").await;
    });
}

#[test]
fn a_message_too_long_is_refused_and_the_connection_goes_on() {
    run(async {
        let server = with(Limits { message: 1000, unary_message: 20, ..Limits::default() }).await;
        let mut client = client_streaming(server.address);
        let long = RecordReadingsRequest { producer_id: "x".repeat(1000), ..Default::default() };
        let refused = client.record_readings(tokio_stream::once(long)).await.unwrap_err();
        assert_limit(&refused, Code::ResourceExhausted, "max_message");
        let mut unary = unary(server.address);
        let command = MultiplyRequest { a: i64::MIN, b: i64::MIN };
        let refused = unary.multiply(command).await.unwrap_err();
        assert_limit(&refused, Code::ResourceExhausted, "max_message");
        assert_eq!(unary.multiply(MultiplyRequest { a: 6, b: 7 }).await.unwrap().into_inner().product, 42);
        client.record_readings(tokio_stream::empty()).await.unwrap();
    });
}

#[test]
fn headers_too_long_are_refused_and_the_other_calls_of_the_connection_go_on() {
    run(async {
        let server = Server::start().await;
        let channel = test_support::channel(server.address);
        let mut ana = Member::silent(channel.clone()).await;
        ana.join("lobby", "ana").await;
        ana.hear_until("joined ana").await;
        for length in [17_000, 100_000] {
            let mut request = Request::new(MultiplyRequest { a: 6, b: 7 });
            request.metadata_mut().insert("x-long", "x".repeat(length).parse().unwrap());
            let refused = UnaryServiceClient::new(channel.clone()).multiply(request).await.unwrap_err();
            assert_limit(&refused, Code::ResourceExhausted, "max_headers");
        }
        ana.post("still here").await;
        ana.hear_until("still here").await;
    });
}

#[test]
fn a_call_has_its_place_until_its_stream_ends() {
    run(async {
        let server = with(Limits { calls: 2, ..Limits::default() }).await;
        let ana = raw_member(server.address, "ana").await;
        let _ben = raw_member(server.address, "ben").await;
        let refused = unary(server.address).multiply(MultiplyRequest { a: 6, b: 7 }).await.unwrap_err();
        assert_limit(&refused, Code::ResourceExhausted, "max_calls");
        ana.cancel();
        until(async || !refuses_calls(&server).await).await;
    });
}

#[test]
fn a_stream_on_which_nothing_moves_ends() {
    run(async {
        let server = with(Limits { idle: Duration::from_millis(200), ..Limits::default() }).await;
        let mut silent = Member::silent(test_support::channel(server.address)).await;
        assert_limit(&silent.failure().await, Code::Unavailable, "idle_timeout");
        let upload = "/fourmodes.v1.ClientStreamingService/RecordReadings";
        let status = RawCall::status(server.address, upload, &[], None::<&RecordReadingsRequest>).await;
        assert_limit(&status, Code::Unavailable, "idle_timeout");
        // One that moves does not, in either direction.
        let interval = Some(prost_types::Duration { seconds: 0, nanos: 40_000_000 });
        let request = WatchQuotesRequest { interval, count: 20, ..WatchQuotesRequest::default() };
        let mut quotes = server_streaming(server.address).watch_quotes(request).await.unwrap().into_inner();
        let mut count = 0;
        while within(quotes.message()).await.unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 20);
        // Nor does a unary call.
        let (request, answer) = multiplication_that_waits(server.address).await;
        let mut silent = Member::silent(test_support::channel(server.address)).await;
        silent.failure().await;
        request.send(MultiplyRequest { a: 6, b: 7 }).unwrap();
        assert_eq!(answer.await.unwrap().unwrap().product, 42);
    });
}

#[test]
fn a_stream_that_is_old_ends() {
    run(async {
        let server = with(Limits { age: Duration::from_millis(300), ..Limits::default() }).await;
        let mut quotes = server_streaming(server.address)
            .watch_quotes(WatchQuotesRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert_limit(&failure_of(&mut quotes).await, Code::Unavailable, "max_stream_age");
        let chat = "/fourmodes.v1.BidiStreamingService/Chat";
        let status = RawCall::status(server.address, chat, &[], None::<&ChatRequest>).await;
        assert_limit(&status, Code::Unavailable, "max_stream_age");
        until(async || open_calls(Mode::BidiStreaming, server.address).await == 0).await;
        assert_answers(server.address).await;
        assert!(!refuses_connections(server.address).await);
    });
}

#[test]
fn a_connection_that_is_old_takes_no_further_calls_and_those_it_has_go_on() {
    run(async {
        let server = with(Limits { connection_age: Duration::from_millis(300), ..Limits::default() }).await;
        let socket = within(TcpStream::connect(server.address)).await.unwrap();
        let (mut peer, connection) = within(h2::client::handshake(socket)).await.unwrap();
        let connection = tokio::spawn(connection);
        let call = http::Request::post("http://localhost/fourmodes.v1.BidiStreamingService/Chat");
        let call = call.header("te", "trailers").header("content-type", "application/grpc").body(()).unwrap();
        let (response, request) = peer.send_request(call, false).unwrap();
        // It is told by GOAWAY.
        until(async || {
            let ready = peer.clone().ready().await;
            ready.is_err_and(|error| error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
        })
        .await;
        assert_eq!(open_calls(Mode::BidiStreaming, server.address).await, 1);
        drop((peer, response, request));
        within(connection).await.unwrap().unwrap();
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_server_may_open_as_many_files_as_its_limits_need_or_says_that_it_may_not() {
    run(async {
        let started = |limit: &str| {
            let script = format!("ulimit {limit} && exec \"$0\" all --max-connections 700");
            let shell = Program::new("sh").arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_end-to-end-server"));
            shell.env("FOURMODES_LISTEN", "127.0.0.1:0").env("FOURMODES_DATA_DIR", ":memory:").serve()
        };
        let server = started("-Sn 256");
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let soft: u64 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
        assert!(soft > 700, "{line}");
        let server = started("-n 256");
        until(async || server.logged(&["fewer files", "have=256"])).await;
    });
}

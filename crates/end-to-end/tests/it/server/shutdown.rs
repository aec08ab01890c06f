use std::time::Duration;

use grpc_wire::Mode;
use shared_proto::fourmodes::v1::{MultiplyRequest, Reading, RecordReadingsRequest, WatchQuotesRequest};
use test_support::{
    LONG_GRACE, Member, Server, assert_answers, channel, client_streaming, failure_of,
    multiplication_that_waits, open_calls, refuses_connections, run, server_streaming, silent_peer,
    unread_quotes, until, within,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};
use tonic_types::StatusExt as _;

#[track_caller]
fn assert_come_again(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let retry = status.get_details_retry_info().expect("no RetryInfo");
    assert!(retry.retry_delay.is_some_and(|delay| !delay.is_zero()), "{retry:?}");
}

#[test]
fn a_chat_ends_with_the_advice_to_come_again() {
    run(async {
        let server = Server::with_grace(LONG_GRACE).await;
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        let mut silent = Member::silent(channel(server.address)).await;
        assert_answers(server.address).await;
        server.begin_shutdown();
        assert_come_again(&ana.failure().await);
        assert_come_again(&silent.failure().await);
        server.ended().await;
    });
}

#[test]
fn quotes_that_are_being_read_end_with_the_advice_to_come_again() {
    run(async {
        let server = Server::with_grace(LONG_GRACE).await;
        let hourly = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
        let mut streams = Vec::new();
        for interval in [None, hourly] {
            let request = WatchQuotesRequest { interval, ..Default::default() };
            let quotes = server_streaming(server.address).watch_quotes(request).await;
            let mut quotes = quotes.unwrap().into_inner();
            assert!(quotes.message().await.unwrap().is_some());
            streams.push(quotes);
        }
        server.begin_shutdown();
        for quotes in &mut streams {
            assert_come_again(&failure_of(quotes).await);
        }
        server.ended().await;
    });
}

/// Their end waits behind what flow control holds back.
#[test]
fn the_grace_period_bounds_quotes_that_nobody_reads() {
    run(async {
        let server = Server::with_grace(Duration::from_millis(300)).await;
        let _quotes = unread_quotes(server.address).await;
        server.begin_shutdown();
        server.ended().await;
    });
}

#[test]
fn an_upload_ends_with_the_advice_to_come_again() {
    run(async {
        let server = Server::with_grace(LONG_GRACE).await;
        let (batches, receiver) = mpsc::channel(1);
        let mut client = client_streaming(server.address);
        let upload = tokio::spawn(async move { client.record_readings(ReceiverStream::new(receiver)).await });
        batches.send(test_support::first_batch()).await.unwrap();
        until(async || open_calls(Mode::ClientStreaming, server.address).await == 1).await;
        server.begin_shutdown();
        assert_come_again(&within(upload).await.unwrap().unwrap_err());
        server.ended().await;
    });
}

#[test]
fn peers_that_are_sending_get_the_advice_to_come_again() {
    run(async {
        let server = Server::with_grace(LONG_GRACE).await;
        let mut client = client_streaming(server.address);
        let upload = tokio::spawn(async move {
            let readings = vec![Reading::default(); 100];
            let batches = (1..).map(move |sequence| RecordReadingsRequest {
                sequence,
                readings: readings.clone(),
                ..test_support::first_batch()
            });
            client.record_readings(tokio_stream::iter(batches)).await
        });
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        let posts = ana.posts_without_end();
        until(async || open_calls(Mode::ClientStreaming, server.address).await == 1).await;
        ana.hear_times(100).await;
        server.begin_shutdown();
        assert_come_again(&within(upload).await.unwrap().unwrap_err());
        assert_come_again(&ana.failure().await);
        within(posts).await.unwrap();
        server.ended().await;
    });
}

#[test]
fn a_health_watch_sees_that_the_server_stops_serving_and_ends() {
    run(async {
        let server = Server::with_grace(LONG_GRACE).await;
        let mut client = HealthClient::new(channel(server.address));
        let mut watches = Vec::new();
        for service in ["", "fourmodes.v1.UnaryService", "Greeter"] {
            let request = HealthCheckRequest { service: service.to_owned() };
            let mut watch = client.watch(request).await.unwrap().into_inner();
            assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
            watches.push(watch);
        }
        server.begin_shutdown();
        for watch in &mut watches {
            let last = within(watch.message()).await.unwrap().unwrap();
            assert_eq!(last.status(), ServingStatus::NotServing);
            assert_come_again(&failure_of(watch).await);
        }
        server.ended().await;
    });
}

#[test]
fn an_open_reflection_stream_ends_with_the_advice_to_come_again() {
    run(async {
        let server = Server::with_grace(LONG_GRACE).await;
        let (_questions, receiver) = mpsc::channel::<ServerReflectionRequest>(1);
        let mut client = ServerReflectionClient::new(channel(server.address));
        let answers = client.server_reflection_info(ReceiverStream::new(receiver)).await;
        let mut answers = answers.unwrap().into_inner();
        server.begin_shutdown();
        assert_come_again(&failure_of(&mut answers).await);
        server.ended().await;
    });
}

#[test]
fn a_unary_call_that_has_begun_is_answered() {
    run(async {
        let server = Server::with_grace(LONG_GRACE).await;
        let (request, answer) = multiplication_that_waits(server.address).await;
        server.begin_shutdown();
        until(async || refuses_connections(server.address).await).await;
        assert!(!server.has_ended());
        request.send(MultiplyRequest { a: 6, b: 7 }).unwrap();
        assert_eq!(within(answer).await.unwrap().unwrap().product, 42);
        server.ended().await;
    });
}

#[test]
fn the_grace_period_bounds_a_unary_call_that_does_not_end() {
    run(async {
        let server = Server::with_grace(Duration::from_millis(300)).await;
        let (_request, _answer) = multiplication_that_waits(server.address).await;
        server.begin_shutdown();
        server.ended().await;
    });
}

#[test]
fn the_grace_period_bounds_a_peer_that_never_says_a_word() {
    run(async {
        let server = Server::with_grace(Duration::from_millis(300)).await;
        let _peer = silent_peer(server.address).await;
        server.begin_shutdown();
        server.ended().await;
    });
}

#[test]
fn the_port_is_closed_as_soon_as_shutdown_begins() {
    run(async {
        let server = Server::with_grace(LONG_GRACE).await;
        let (_request, _answer) = multiplication_that_waits(server.address).await;
        assert!(!refuses_connections(server.address).await);
        server.begin_shutdown();
        until(async || refuses_connections(server.address).await).await;
        assert!(!server.has_ended());
    });
}

#[test]
fn a_server_without_open_calls_stops_at_once() {
    run(async {
        let server = Server::with_grace(LONG_GRACE).await;
        assert_answers(server.address).await;
        server.begin_shutdown();
        server.ended().await;
    });
}

#[test]
fn a_server_that_is_dropped_stops_listening() {
    run(async {
        let server = Server::start().await;
        assert_answers(server.address).await;
        let address = server.address;
        server.dropped();
        until(async || refuses_connections(address).await).await;
    });
}

//! Deadlines that the server keeps by itself: these clients only tell it.

use std::time::Duration;

use grpc_wire::Mode;
use prost::Message;
use shared_proto::fourmodes::v1::{
    ChatRequest, JoinRoom, MultiplyRequest, RecordReadingsRequest, WatchQuotesRequest, chat_request::Action,
};
use stack::{Limits, Settings};
use test_support::{
    RawCall, Server, bad_fields, client_streaming, first_batch, open_calls, run, until, within,
};
use tokio_stream::pending;
use tonic::{Code, Request, Status};

const UNARY: &str = "/fourmodes.v1.UnaryService/Multiply";
const SERVER_STREAMING: &str = "/fourmodes.v1.ServerStreamingService/WatchQuotes";
const CLIENT_STREAMING: &str = "/fourmodes.v1.ClientStreamingService/RecordReadings";
const BIDI_STREAMING: &str = "/fourmodes.v1.BidiStreamingService/Chat";

fn join() -> ChatRequest {
    let join = JoinRoom { room: "lobby".to_owned(), name: "ana".to_owned(), ..JoinRoom::default() };
    ChatRequest { action: Some(Action::Join(join)) }
}

async fn assert_exceeded(server: &Server, mode: Mode, path: &str, message: Option<&impl Message>) {
    let status = RawCall::status(server.address, path, &[("grpc-timeout", "200m")], message).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{mode}: {status}");
    until(async || open_calls(mode, server.address).await == u64::from(mode == Mode::Unary)).await;
}

#[test]
fn a_call_of_any_mode_ends_at_its_deadline() {
    run(async {
        let server = Server::start().await;
        assert_exceeded(&server, Mode::Unary, UNARY, None::<&MultiplyRequest>).await;
        let quotes = WatchQuotesRequest {
            interval: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
            ..Default::default()
        };
        assert_exceeded(&server, Mode::ServerStreaming, SERVER_STREAMING, Some(&quotes)).await;
        assert_exceeded(&server, Mode::ServerStreaming, SERVER_STREAMING, None::<&WatchQuotesRequest>).await;
        assert_exceeded(&server, Mode::ClientStreaming, CLIENT_STREAMING, Some(&first_batch())).await;
        assert_exceeded(&server, Mode::BidiStreaming, BIDI_STREAMING, Some(&join())).await;
        assert_exceeded(&server, Mode::BidiStreaming, BIDI_STREAMING, None::<&ChatRequest>).await;
    });
}

/// Also one that sends without end.
#[test]
fn a_stream_that_is_busy_ends_at_its_deadline() {
    run(async {
        let server = Server::start().await;
        let quotes = WatchQuotesRequest::default();
        assert_exceeded(&server, Mode::ServerStreaming, SERVER_STREAMING, Some(&quotes)).await;
    });
}

#[test]
fn a_unary_call_without_a_deadline_has_that_of_the_server() {
    run(async {
        let limits = Limits { unary_deadline: Duration::from_millis(100), ..Limits::default() };
        let server = Server::with(Settings { limits, ..Settings::default() }.into()).await;
        let status = RawCall::status(server.address, UNARY, &[], None::<&MultiplyRequest>).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!(status.message().contains("100ms"), "{status}");
        // A deadline of the client holds, even if it is a longer one, and a
        // stream may go on without.
        let (_longer, mut answered) = RawCall::begin(server.address, UNARY, &[("grpc-timeout", "1H")]).await;
        let (_stream, mut ended) = RawCall::begin(server.address, CLIENT_STREAMING, &[]).await;
        for _ in 0..3 {
            RawCall::status(server.address, UNARY, &[], None::<&MultiplyRequest>).await;
        }
        assert!(futures_are_pending(&mut answered, &mut ended).await);
    });
}

#[test]
fn no_client_gets_more_time_for_a_unary_call_than_the_server_gives() {
    run(async {
        let limits = Limits { max_unary_deadline: Duration::from_millis(100), ..Limits::default() };
        let server = Server::with(Settings { limits, ..Settings::default() }.into()).await;
        for asked in ["99999999H", "1S"] {
            let headers = [("grpc-timeout", asked)];
            let status = RawCall::status(server.address, UNARY, &headers, None::<&MultiplyRequest>).await;
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
            assert!(status.message().contains("100ms"), "{status}");
        }
    });
}

async fn futures_are_pending<T>(
    one: &mut (impl Future<Output = T> + Unpin),
    other: &mut (impl Future<Output = T> + Unpin),
) -> bool {
    tokio::select! {
        biased;
        _ = one => false,
        _ = other => false,
        () = std::future::ready(()) => true,
    }
}

#[test]
fn a_timeout_that_is_none_is_refused() {
    run(async {
        let server = Server::start().await;
        for wrong in ["1", "1s", "-1S", "123456789S"] {
            let headers = [("grpc-timeout", wrong)];
            let refused = RawCall::status(server.address, UNARY, &headers, None::<&MultiplyRequest>).await;
            assert_eq!(bad_fields(&refused), ["grpc-timeout"], "{wrong}");
        }
    });
}

#[test]
fn an_upload_that_outlives_its_deadline_fails_and_is_freed() {
    run(async {
        let server = Server::start().await;
        let mut request = Request::new(pending::<RecordReadingsRequest>());
        request.set_timeout(Duration::from_millis(200));
        let mut client = client_streaming(server.address);
        let failed: Status = within(client.record_readings(request)).await.unwrap_err();
        assert!(matches!(failed.code(), Code::DeadlineExceeded | Code::Cancelled), "{failed}");
        until(async || open_calls(Mode::ClientStreaming, server.address).await == 0).await;
    });
}

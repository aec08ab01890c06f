//! How a script ends a call.

use std::time::Duration;

use prost::Message as _;
use shared_proto::fourmodes::v1::{
    BidiStreamingRequest, ClientStreamingRequest, EndStatus, Script, ServerStreamingRequest, Step,
    UnaryRequest, ending::Kind,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::{StatusExt as _, pb};

use super::{
    BIDI_STREAMING, SERVER_STREAMING, end, ending, entry, milliseconds, new_id, observation, observed, probe,
    wire,
};
use test_support::{RawCall, Server, failure_of, run, within};

fn status(code: i32) -> EndStatus {
    EndStatus { code, message: "ü\nand more".to_owned(), details: Vec::new() }
}

#[test]
fn each_code_arrives_with_its_message() {
    run(async {
        let server = Server::start().await;
        let mut probe = probe(server.address);
        for code in 1..=16 {
            let script = Some(ending(Kind::Status(status(code))));
            let unary = probe.unary(UnaryRequest { script: script.clone(), ..Default::default() }).await;
            let upload = ClientStreamingRequest { script: script.clone(), ..Default::default() };
            let upload = probe.client_streaming(tokio_stream::once(upload)).await;
            let stream = ServerStreamingRequest { script: script.clone(), ..Default::default() };
            let stream = probe.server_streaming(stream).await;
            let bidi = BidiStreamingRequest { script, ..Default::default() };
            let bidi = probe.bidi_streaming(tokio_stream::once(bidi)).await;
            for status in [unary.err(), upload.err(), stream.err(), bidi.err()] {
                let status = status.expect("it ended well");
                assert_eq!((status.code() as i32, status.message()), (code, "ü\nand more"));
            }
        }
        // And OK, with the response first where there is one.
        let script = Some(ending(Kind::Status(status(0))));
        probe.unary(UnaryRequest { script, ..Default::default() }).await.unwrap();
    });
}

#[test]
fn details_arrive() {
    run(async {
        let server = Server::start().await;
        let info = pb::ErrorInfo { reason: "R".to_owned(), ..Default::default() };
        let type_url = "type.googleapis.com/google.rpc.ErrorInfo".to_owned();
        let details = vec![prost_types::Any { type_url, value: info.encode_to_vec() }];
        let script = Some(ending(Kind::Status(EndStatus { details, ..status(9) })));
        let refused = probe(server.address).unary(UnaryRequest { script, ..Default::default() }).await;
        assert_eq!(refused.unwrap_err().get_details_error_info().unwrap().reason, "R");
    });
}

fn text<'a>(headers: &'a http::HeaderMap, key: &str) -> Option<&'a str> {
    headers.get(key).map(|value| value.to_str().unwrap())
}

/// The head, how many bytes of data, and the trailers or the code of a reset.
async fn raw(
    server: &Server,
    path: &str,
    script: Script,
) -> (http::HeaderMap, usize, Result<http::HeaderMap, u32>) {
    let (mut call, response) = RawCall::begin(server.address, path, &[]).await;
    call.send(&ServerStreamingRequest { script: Some(script), ..Default::default() }, true);
    let response = match within(response).await {
        Ok(response) => response,
        Err(error) => return (http::HeaderMap::new(), 0, Err(error.reason().unwrap().into())),
    };
    let (head, mut body) = response.into_parts();
    let mut length = 0;
    while let Some(data) = within(body.data()).await {
        match data {
            Ok(data) => {
                length += data.len();
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            Err(error) => return (head.headers, length, Err(error.reason().unwrap().into())),
        }
    }
    let trailers = within(body.trailers()).await;
    let trailers = trailers.map(Option::unwrap_or_default).map_err(|error| error.reason().unwrap().into());
    (head.headers, length, trailers)
}

#[test]
fn a_status_alone_is_the_head_and_otherwise_the_trailers() {
    run(async {
        let server = Server::start().await;
        let alone = Script { trailing_metadata: vec![entry("x-t", "t")], ..ending(Kind::Status(status(5))) };
        for path in [
            SERVER_STREAMING,
            BIDI_STREAMING,
            "/fourmodes.v1.ProbeService/Unary",
            "/fourmodes.v1.ProbeService/ClientStreaming",
        ] {
            let (head, length, trailers) = raw(&server, path, alone.clone()).await;
            assert_eq!((text(&head, "grpc-status"), text(&head, "x-t")), (Some("5"), Some("t")), "{path}");
            assert_eq!((length, trailers), (0, Ok(http::HeaderMap::new())), "{path}");
            // With something in the head, the status comes after it.
            let with_head = Script { initial_metadata: vec![entry("x-i", "i")], ..alone.clone() };
            let (head, length, trailers) = raw(&server, path, with_head).await;
            assert_eq!(
                (text(&head, "grpc-status"), text(&head, "x-i"), length),
                (None, Some("i"), 0),
                "{path}"
            );
            let trailers = trailers.unwrap();
            assert_eq!(
                (text(&trailers, "grpc-status"), text(&trailers, "x-t")),
                (Some("5"), Some("t")),
                "{path}"
            );
            assert_eq!(trailers.get_all("x-t").iter().count(), 1);
        }
        // And after messages as well.
        let script = Script { steps: vec![Step { repeat: 3, ..Step::default() }], ..alone };
        let (head, length, trailers) = raw(&server, SERVER_STREAMING, script).await;
        assert_eq!(head.get("grpc-status"), None);
        assert!(length > 3 * 5);
        assert_eq!(trailers.unwrap()["grpc-status"], "5");
    });
}

#[test]
fn a_reset_has_the_code_that_was_asked_for_and_comes_after_the_messages() {
    run(async {
        let server = Server::start().await;
        for path in [
            SERVER_STREAMING,
            BIDI_STREAMING,
            "/fourmodes.v1.ProbeService/Unary",
            "/fourmodes.v1.ProbeService/ClientStreaming",
        ] {
            for code in 0..=13 {
                let steps = vec![Step { payload_bytes: 40_000, ..Step::default() }];
                let script = Script {
                    steps,
                    initial_metadata: vec![entry("x-i", "i")],
                    ..ending(Kind::ResetCode(code))
                };
                let (head, length, end) = raw(&server, path, script).await;
                assert_eq!(head["x-i"], "i", "{path} {code}");
                assert!(length >= 40_000, "{path} {code}: {length} bytes");
                assert_eq!(end, Err(code), "{path}");
            }
        }
        // Without a message, too, the head comes before it.
        let script = Script { initial_metadata: vec![entry("x-i", "i")], ..ending(Kind::ResetCode(8)) };
        let (head, length, end) = raw(&server, SERVER_STREAMING, script).await;
        assert_eq!((text(&head, "x-i"), length, end), (Some("i"), 0, Err(8)));
    });
}

#[test]
fn a_stall_is_silent_and_ends_well() {
    run(async {
        let server = Server::start().await;
        let script = Some(ending(Kind::Stall(milliseconds(300).unwrap())));
        let begun = tokio::time::Instant::now();
        let request = ServerStreamingRequest { script, ..Default::default() };
        let mut responses =
            within(probe(server.address).server_streaming(request)).await.unwrap().into_inner();
        assert!(within(responses.message()).await.unwrap().is_none());
        assert!(begun.elapsed() >= Duration::from_millis(300));
    });
}

#[test]
fn an_end_at_once_does_not_wait_for_the_client() {
    run(async {
        let server = Server::start().await;
        let (sender, receiver) = mpsc::channel(1);
        let script = Some(Script { steps: vec![Step::default()], ..ending(Kind::Status(status(6))) });
        sender.send(BidiStreamingRequest { script, ..Default::default() }).await.unwrap();
        let responses = within(probe(server.address).bidi_streaming(ReceiverStream::new(receiver))).await;
        let ended: Status = failure_of(&mut responses.unwrap().into_inner()).await;
        assert_eq!(ended.code(), Code::AlreadyExists);
        drop(sender);
    });
}

/// A deadline that passes before the server has the script leaves no observation. On a
/// busy machine the test asks again with a longer one.
#[test]
fn a_deadline_ends_a_stall_and_is_no_cancel() {
    run(async {
        let server = Server::start().await;
        for deadline in ["200m", "2S", "20S"] {
            let id = new_id();
            let script = Script {
                call_id: id.clone(),
                ending: end(Kind::Stall(wire(Duration::from_secs(3600)).unwrap())),
                ..Script::default()
            };
            let request = ServerStreamingRequest { script: Some(script), ..Default::default() };
            let headers = [("grpc-timeout", deadline)];
            let ended = RawCall::status(server.address, BIDI_STREAMING, &headers, Some(&request)).await;
            assert_eq!(ended.code(), Code::DeadlineExceeded);
            if observation(server.address, &id).await.is_some() {
                let seen = observed(server.address, &id, |seen| seen.ended).await;
                assert_eq!(seen.cancelled, None);
                return;
            }
        }
        panic!("the server began no script within 20 s");
    });
}

//! Each field of an observation.

use std::time::Duration;

use bytes::Bytes;
use shared_proto::fourmodes::v1::{
    BidiStreamingRequest, ClientStreamingRequest, Observation, Script, ServerStreamingRequest, Step,
    UnaryRequest, ending::Kind,
};
use stack::{Limits, Settings};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, codec::CompressionEncoding, metadata::MetadataValue};

use super::{BIDI_STREAMING, SERVER_STREAMING, ending, new_id, observation, observed, probe, time, wire};
use test_support::{RawCall, Server, run, within};

async fn seen(server: &Server, request: Request<UnaryRequest>) -> Observation {
    let answer = within(probe(server.address).unary(request)).await.unwrap();
    answer.into_inner().observation.unwrap()
}

#[test]
fn the_connection_and_the_server() {
    run(async {
        let limits =
            Limits { streams: 7, unary_message: 5000, message: 6000, headers: 9000, ..Limits::default() };
        let server = Server::with(Settings { limits, ..Settings::default() }.into()).await;
        let mut client = probe(server.address);
        let mut ask =
            async || client.unary(UnaryRequest::default()).await.unwrap().into_inner().observation.unwrap();
        let (first, again) = (ask().await, ask().await);
        assert_eq!((first.connection, &first.peer), (again.connection, &again.peer));
        assert_eq!(first.local, server.address.to_string());
        assert_eq!(first.authority, server.address.to_string());
        assert_eq!(first.http_version, "HTTP/2.0");
        assert_eq!((first.tls, first.deadline), (None, None));
        let other = seen(&server, Request::new(UnaryRequest::default())).await;
        assert_eq!((other.connection, &other.instance_id), (first.connection + 1, &first.instance_id));
        assert_ne!(other.peer, first.peer);
        let limits = first.limits.unwrap();
        assert_eq!((limits.max_concurrent_streams, limits.max_header_list_bytes), (7, 9000));
        assert_eq!((limits.max_unary_message_bytes, limits.max_stream_message_bytes), (5000, 6000));
        let another = Server::start().await;
        let seen = seen(&another, Request::new(UnaryRequest::default())).await;
        assert_ne!(seen.instance_id, first.instance_id);
    });
}

#[test]
fn the_metadata_as_it_came_without_secrets() {
    run(async {
        let server = Server::start().await;
        let mut request = Request::new(UnaryRequest::default());
        let metadata = request.metadata_mut();
        metadata.append("x-a", "1".parse().unwrap());
        metadata.append("x-a", "2".parse().unwrap());
        metadata.insert_bin("x-b-bin", MetadataValue::from_bytes(&[0, 255]));
        metadata.insert("authorization", "Bearer secret".parse().unwrap());
        metadata.insert("cookie", "secret".parse().unwrap());
        metadata.insert("x-opaque", MetadataValue::try_from(&b"a\xffb"[..]).unwrap());
        request.set_timeout(Duration::from_secs(77));
        let seen = seen(&server, request).await;
        assert!(
            time(seen.deadline) <= Duration::from_secs(77) && time(seen.deadline) > Duration::from_secs(70)
        );
        let values = |key: &str| {
            let entries = seen.metadata.iter().filter(|entry| entry.key == key);
            entries.map(|entry| (entry.text.as_str(), entry.binary.as_slice())).collect::<Vec<_>>()
        };
        assert_eq!(values("x-a"), [("1", &[][..]), ("2", &[])]);
        assert_eq!(values("x-b-bin"), [("", &[0, 255][..])]);
        assert_eq!(values("authorization"), [("", &[][..])]);
        assert_eq!(values("cookie"), [("", &[][..])]);
        assert_eq!(values("x-opaque"), [("a%FFb", &[][..])]);
        assert_eq!(values("te"), [("trailers", &[][..])]);
        assert_eq!(values("content-type"), [("application/grpc", &[][..])]);
        assert_eq!(values("grpc-timeout").len(), 1);
    });
}

#[test]
fn when_each_message_arrived_and_the_half_ended() {
    run(async {
        let server = Server::start().await;
        let address = server.address;
        let (sender, receiver) = mpsc::channel(1);
        let call = tokio::spawn(async move {
            let mut probe = probe(address);
            probe.client_streaming(ReceiverStream::new(receiver)).await.unwrap().into_inner()
        });
        let pause = Duration::from_millis(50);
        let id = new_id();
        let mut script = Some(Script { call_id: id.clone(), ..Script::default() });
        for number in 1..=3 {
            let request =
                ClientStreamingRequest { script: script.take(), payload: Bytes::from_static(b"ab") };
            sender.send(request).await.unwrap();
            observed(address, &id, |seen| seen.messages_received == number).await;
            tokio::time::sleep(pause).await;
        }
        drop(sender);
        let seen = within(call).await.unwrap().observation.unwrap();
        let arrivals: Vec<_> = seen.arrivals.iter().map(|at| time(Some(*at))).collect();
        assert_eq!((seen.messages_received, seen.bytes_received, arrivals.len()), (3, 6, 3));
        assert!(arrivals[1] >= arrivals[0] + pause && arrivals[2] >= arrivals[1] + pause, "{arrivals:?}");
        assert!(time(seen.half_closed) >= arrivals[2] + pause);
        assert_eq!(seen.cancelled, None);
    });
}

#[test]
fn the_first_1024_arrivals_are_kept_and_all_are_counted() {
    run(async {
        let server = Server::start().await;
        let requests = tokio_stream::iter(std::iter::repeat_n(ClientStreamingRequest::default(), 3000));
        let answer = within(probe(server.address).client_streaming(requests)).await.unwrap().into_inner();
        let seen = answer.observation.unwrap();
        assert_eq!((seen.messages_received, seen.arrivals.len()), (3000, 1024));
    });
}

#[test]
fn the_compression_of_what_came() {
    run(async {
        let server = Server::start().await;
        for (encoding, name) in [(CompressionEncoding::Gzip, "gzip"), (CompressionEncoding::Zstd, "zstd")] {
            let client = probe(server.address).send_compressed(encoding);
            let request = UnaryRequest { script: None, payload: vec![0; 100_000].into() };
            let answer = within(client.clone().unary(request.clone())).await.unwrap();
            assert_eq!(answer.metadata().get("grpc-encoding"), None);
            let seen = answer.into_inner().observation.unwrap();
            // More than a unary request may have, but not on the wire.
            assert_eq!((seen.encoding.as_str(), seen.bytes_received), (name, 100_000));
            // An answer is compressed for who accepts it.
            let step = Step { payload_bytes: 100_000, compressible: true, ..Step::default() };
            let script = Some(Script { steps: vec![step], ..Script::default() });
            let request = ServerStreamingRequest { script, ..Default::default() };
            let answer = within(client.accept_compressed(encoding).server_streaming(request)).await.unwrap();
            assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), name);
            let first = within(answer.into_inner().message()).await.unwrap().unwrap();
            assert_eq!(first.payload.len(), 100_000);
        }
        let seen = seen(&server, Request::new(UnaryRequest::default())).await;
        assert_eq!(seen.encoding, "identity");
    });
}

fn stalled(id: &str) -> Script {
    Script { call_id: id.to_owned(), ..ending(Kind::Stall(wire(Duration::from_secs(3600)).unwrap())) }
}

#[test]
fn a_cancel_is_seen_and_is_no_half_close() {
    run(async {
        let server = Server::start().await;
        // While a stream is open, one that is half-closed and one that is not.
        for (path, last) in [(SERVER_STREAMING, true), (BIDI_STREAMING, false), (BIDI_STREAMING, true)] {
            let id = new_id();
            let script = Some(stalled(&id));
            let message = ServerStreamingRequest { script, ..Default::default() };
            let call = RawCall::open(server.address, path, &message, last).await;
            let before = observed(server.address, &id, |seen| seen.half_closed.is_some() == last).await;
            assert_eq!((before.cancelled, before.ended), (None, false));
            call.cancel();
            let seen = observed(server.address, &id, |seen| seen.ended).await;
            assert!(seen.cancelled.is_some(), "{path}");
            assert_eq!(seen.half_closed.is_some(), last, "{path}");
        }
        // Before there is a head.
        for path in ["/fourmodes.v1.ProbeService/Unary", "/fourmodes.v1.ProbeService/ClientStreaming"] {
            let id = new_id();
            let (mut call, _response) = RawCall::begin(server.address, path, &[]).await;
            let script = Some(stalled(&id));
            call.send(&ServerStreamingRequest { script, ..Default::default() }, path.ends_with("Unary"));
            observed(server.address, &id, |_| true).await;
            call.cancel();
            let seen = observed(server.address, &id, |seen| seen.ended).await;
            assert!(seen.cancelled.is_some(), "{path}");
            assert_eq!(seen.half_closed.is_some(), path.ends_with("Unary"), "{path}");
        }
    });
}

/// Also of an upload that is only waited for, where a reset looks like its end.
#[test]
fn an_upload_that_is_cancelled_has_not_ended() {
    run(async {
        let server = Server::start().await;
        for reason in [h2::Reason::CANCEL, h2::Reason::NO_ERROR, h2::Reason::INTERNAL_ERROR] {
            for path in ["/fourmodes.v1.ProbeService/ClientStreaming", BIDI_STREAMING] {
                let id = new_id();
                let (mut call, _response) = RawCall::begin(server.address, path, &[]).await;
                let script = Some(Script { call_id: id.clone(), ..Script::default() });
                call.send(&BidiStreamingRequest { script, ..Default::default() }, false);
                observed(server.address, &id, |_| true).await;
                call.reset(reason);
                let seen = observed(server.address, &id, |seen| seen.ended).await;
                assert!(
                    seen.cancelled.is_some() && seen.half_closed.is_none(),
                    "{path} {reason:?}: {seen:?}"
                );
            }
        }
    });
}

#[test]
fn a_connection_that_is_cut_is_a_cancel() {
    run(async {
        let server = Server::start().await;
        let id = new_id();
        let message = BidiStreamingRequest { script: Some(stalled(&id)), ..Default::default() };
        drop(RawCall::open(server.address, BIDI_STREAMING, &message, false).await);
        let seen = observed(server.address, &id, |seen| seen.ended).await;
        assert!(seen.cancelled.is_some());
    });
}

#[test]
fn a_call_that_is_over_is_not_cancelled_by_its_client() {
    run(async {
        let server = Server::start().await;
        for _ in 0..20 {
            let id = new_id();
            let script =
                Some(Script { call_id: id.clone(), steps: vec![Step::default()], ..Script::default() });
            let request = ServerStreamingRequest { script, ..Default::default() };
            let mut responses = probe(server.address).server_streaming(request).await.unwrap().into_inner();
            while within(responses.message()).await.unwrap().is_some() {}
            let seen = observation(server.address, &id).await.unwrap();
            assert!(seen.ended && seen.cancelled.is_none(), "{seen:?}");
        }
    });
}

//! Each field of a script, seen by the client.

use std::time::Duration;

use bytes::Bytes;
use shared_proto::fourmodes::v1::{
    AfterHalfClose, BidiStreamingRequest, ClientStreamingRequest, Script, ServerStreamingRequest, Step,
    UnaryRequest, ending::Kind,
};
use stack::{Limits, Settings};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::{binary_entry, echo, end, entry, milliseconds, probe, time, wire};
use test_support::{Server, run, within};

const PAUSE: Duration = Duration::from_millis(150);

fn pause() -> Option<prost_types::Duration> {
    wire(PAUSE)
}

fn message(payload: &'static [u8]) -> BidiStreamingRequest {
    BidiStreamingRequest { script: None, payload: Bytes::from_static(payload) }
}

#[test]
fn an_empty_script_is_answered_at_once() {
    run(async {
        let server = Server::start().await;
        let mut probe = probe(server.address);
        let unary = probe.unary(UnaryRequest::default()).await.unwrap().into_inner();
        assert!(unary.payload.is_empty());
        assert_eq!(unary.observation.unwrap().messages_received, 1);
        let mut stream =
            probe.server_streaming(ServerStreamingRequest::default()).await.unwrap().into_inner();
        assert!(within(stream.message()).await.unwrap().is_none());
        let upload = probe.client_streaming(tokio_stream::empty()).await.unwrap().into_inner();
        assert_eq!(upload.observation.unwrap().messages_received, 0);
        let mut stream = probe.bidi_streaming(tokio_stream::empty()).await.unwrap().into_inner();
        assert!(within(stream.message()).await.unwrap().is_none());
    });
}

#[test]
fn head_steps_and_trailers_are_as_the_script_says() {
    run(async {
        let server = Server::start().await;
        let script = Script {
            head_delay: pause(),
            initial_metadata: vec![entry("x-a", "1"), entry("x-a", "2"), binary_entry("x-b-bin", &[0, 255])],
            trailing_metadata: vec![entry("x-c", "3"), binary_entry("x-d-bin", b"d")],
            steps: vec![
                Step { payload_bytes: 3, ..Step::default() },
                Step { repeat: 2, delay: pause(), payload_bytes: 5, compressible: true, ..Step::default() },
            ],
            ending: end(Kind::AfterHalfClose(AfterHalfClose { with_observation: true })),
            ..Script::default()
        };
        let begun = Instant::now();
        let request = ServerStreamingRequest { script: Some(script.clone()), ..Default::default() };
        let responses = within(probe(server.address).server_streaming(request)).await.unwrap();
        let head_after = begun.elapsed();
        assert!(head_after >= PAUSE);
        let head = responses.metadata();
        assert_eq!(head.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(&head.get_bin("x-b-bin").unwrap().to_bytes().unwrap()[..], [0, 255]);
        let mut responses = responses.into_inner();
        let mut all = Vec::new();
        while let Some(response) = within(responses.message()).await.unwrap() {
            all.push(response);
        }
        assert!(begun.elapsed() >= 3 * PAUSE);
        assert_eq!(all.iter().map(|it| it.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(all.iter().map(|it| it.payload.len()).collect::<Vec<_>>(), [3, 5, 5, 0]);
        assert_eq!(&all[1].payload[..], [0; 5]);
        assert_ne!(&all[0].payload[..], [0; 3]);
        let sent: Vec<_> = all.iter().map(|it| time(it.sent)).collect();
        assert!(sent[0] >= PAUSE && sent[1] >= sent[0] + PAUSE && sent[2] >= sent[1] + PAUSE, "{sent:?}");
        let observations: Vec<_> = all.iter().map(|it| it.observation.is_some()).collect();
        assert_eq!(observations, [true, false, false, true]);
        let last = all[3].observation.as_ref().unwrap();
        assert_eq!((last.messages_sent, last.bytes_sent), (4, 13));
        let trailers = within(responses.trailers()).await.unwrap().unwrap();
        assert_eq!(trailers.get("x-c").unwrap(), "3");
        assert_eq!(&trailers.get_bin("x-d-bin").unwrap().to_bytes().unwrap()[..], b"d");
        // Where there is one response, it has the payload of the last step.
        let request = UnaryRequest { script: Some(Script { ending: None, ..script }), ..Default::default() };
        let begun = Instant::now();
        let response = within(probe(server.address).unary(request)).await.unwrap();
        assert!(begun.elapsed() >= 3 * PAUSE);
        assert_eq!(response.get_ref().payload, [0; 5].as_slice());
        assert_eq!(response.metadata().get_all("x-a").iter().count(), 2);
        // tonic's client has the trailers of a unary call among its metadata.
        assert_eq!(response.metadata().get("x-c").unwrap(), "3");
    });
}

/// And so it can be told whether something on the path holds it back.
#[test]
fn the_head_comes_before_the_first_step() {
    run(async {
        let server = Server::start().await;
        let step = Step { delay: wire(Duration::from_secs(3600)), ..Step::default() };
        let script = Some(Script { steps: vec![step], ..Script::default() });
        let request = ServerStreamingRequest { script: script.clone(), ..Default::default() };
        within(probe(server.address).server_streaming(request)).await.unwrap();
        let request = BidiStreamingRequest { script, ..Default::default() };
        within(probe(server.address).bidi_streaming(tokio_stream::once(request))).await.unwrap();
    });
}

#[test]
fn a_dialogue_goes_message_by_message() {
    run(async {
        let server = Server::start().await;
        let (sender, receiver) = mpsc::channel(1);
        let steps = vec![echo(2), Step { payload_bytes: 1, ..Step::default() }, echo(5)];
        let script = Some(Script { steps, ..Script::default() });
        sender.send(BidiStreamingRequest { script, ..message(b"first") }).await.unwrap();
        let responses = within(probe(server.address).bidi_streaming(ReceiverStream::new(receiver))).await;
        let mut responses = responses.unwrap().into_inner();
        let mut next = async || within(responses.message()).await.unwrap();
        sender.send(message(b"one")).await.unwrap();
        assert_eq!(next().await.unwrap().payload, "one");
        sender.send(message(b"two")).await.unwrap();
        assert_eq!(next().await.unwrap().payload, "two");
        assert_eq!(next().await.unwrap().payload.len(), 1);
        sender.send(message(b"three")).await.unwrap();
        assert_eq!(next().await.unwrap().payload, "three");
        // The client has no more: the step is over, and then the call.
        drop(sender);
        assert!(next().await.is_none());
    });
}

#[test]
fn both_directions_run_by_themselves() {
    run(async {
        let server = Server::start().await;
        let (sender, receiver) = mpsc::channel(1);
        let id = super::new_id();
        let script = Script {
            call_id: id.clone(),
            steps: vec![Step { repeat: 1 << 14, payload_bytes: 1 << 14, ..Step::default() }],
            ..Script::default()
        };
        sender.send(BidiStreamingRequest { script: Some(script), ..message(b"") }).await.unwrap();
        let responses =
            within(probe(server.address).bidi_streaming(ReceiverStream::new(receiver))).await.unwrap();
        // Nothing is read of the responses, and the requests arrive nevertheless.
        for _ in 0..100 {
            within(sender.send(message(b"and"))).await.unwrap();
        }
        drop(sender);
        let seen = super::observed(server.address, &id, |seen| seen.half_closed.is_some()).await;
        assert_eq!((seen.messages_received, seen.bytes_received), (101, 300));
        // What was not read is not made either.
        assert!(seen.bytes_sent < 16 << 20, "{}", seen.bytes_sent);
        drop(responses);
    });
}

#[test]
fn an_upload_is_answered_after_the_half_close_or_before() {
    run(async {
        let server = Server::start().await;
        let message = |payload| ClientStreamingRequest { script: None, payload: Bytes::from_static(payload) };
        let script = Some(Script { steps: vec![echo(2)], ..Script::default() });
        let requests =
            [ClientStreamingRequest { script, ..message(b"0") }, message(b"1"), message(b"2"), message(b"3")];
        let answer = within(probe(server.address).client_streaming(tokio_stream::iter(requests))).await;
        let answer = answer.unwrap().into_inner();
        assert_eq!(answer.payload, "2");
        let seen = answer.observation.unwrap();
        assert_eq!((seen.messages_received, seen.bytes_received, seen.arrivals.len()), (4, 4, 4));
        assert!(seen.half_closed.is_some() && seen.cancelled.is_none());
        // An early answer reaches a client that goes on.
        let (sender, receiver) = mpsc::channel(1);
        let script = Some(super::ending(Kind::Status(Default::default())));
        sender.send(ClientStreamingRequest { script, ..message(b"") }).await.unwrap();
        let answer = within(probe(server.address).client_streaming(ReceiverStream::new(receiver))).await;
        assert!(answer.unwrap().into_inner().observation.unwrap().half_closed.is_none());
    });
}

#[test]
fn what_is_not_read_yet_waits_with_the_client() {
    run(async {
        let server = Server::start().await;
        let hour = wire(Duration::from_secs(3600));
        let unread = Script { read_delay: hour, ..Script::default() };
        // What it is to return is read ahead, as much of it as may be kept.
        let unreturned = Script { steps: vec![Step { delay: hour, ..echo(1000) }], ..Script::default() };
        for script in [unread, unreturned] {
            let (sender, receiver) = mpsc::channel(1);
            let first = ClientStreamingRequest { script: Some(script), payload: Bytes::new() };
            let mut probe = probe(server.address);
            let call =
                tokio::spawn(async move { probe.client_streaming(ReceiverStream::new(receiver)).await });
            sender.send(first).await.unwrap();
            let message = ClientStreamingRequest { script: None, payload: vec![0; 1 << 20].into() };
            let mut sent = 0;
            let stuck = async {
                while sender.send(message.clone()).await.is_ok() {
                    sent += 1;
                }
            };
            // Long enough for a gigabyte, if anybody took it.
            let stopped = tokio::time::timeout(Duration::from_secs(2), stuck).await;
            assert!(stopped.is_err(), "the call is over");
            assert!(sent < 32, "{sent} MiB went out");
            call.abort();
        }
    });
}

#[test]
fn what_is_read_late_arrives_late() {
    run(async {
        let server = Server::start().await;
        let script = Some(Script { read_delay: pause(), ..Script::default() });
        let requests = [ClientStreamingRequest { script, ..Default::default() }, Default::default()];
        let answer = within(probe(server.address).client_streaming(tokio_stream::iter(requests))).await;
        let arrivals = answer.unwrap().into_inner().observation.unwrap().arrivals;
        assert!(arrivals.len() == 2 && time(Some(arrivals[1])) >= PAUSE, "{arrivals:?}");
    });
}

#[test]
fn a_silence_that_was_asked_for_is_not_idle() {
    run(async {
        let limits = Limits { idle: Duration::from_millis(300), ..Limits::default() };
        let server = Server::with(Settings { limits, ..Settings::default() }.into()).await;
        let long = milliseconds(1200);
        let step = Step { delay: long, ..Step::default() };
        let scripts = [
            Script { head_delay: long, ..Script::default() },
            Script { read_delay: long, ..Script::default() },
            Script { steps: vec![step], ..Script::default() },
            super::ending(Kind::Stall(long.unwrap())),
        ];
        for script in scripts {
            let request = BidiStreamingRequest { script: Some(script), ..Default::default() };
            let begun = Instant::now();
            let responses = probe(server.address).bidi_streaming(tokio_stream::once(request)).await;
            let mut responses = responses.unwrap().into_inner();
            while within(responses.message()).await.unwrap().is_some() {}
            assert!(begun.elapsed() >= Duration::from_millis(1200));
        }
        // One that was not asked for is.
        let (sender, receiver) = mpsc::channel(1);
        sender.send(BidiStreamingRequest::default()).await.unwrap();
        let responses = probe(server.address).bidi_streaming(ReceiverStream::new(receiver)).await;
        let ended = within(responses.unwrap().into_inner().message()).await.unwrap_err();
        assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    });
}

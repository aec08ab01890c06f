//! What a script may not say.

use std::time::Duration;

use shared_proto::fourmodes::v1::{
    BidiStreamingRequest, ClientStreamingRequest, EndStatus, GetObservationRequest, MetadataEntry, Script,
    ServerStreamingRequest, Step, UnaryRequest, ending::Kind,
};
use tonic::Status;

use super::{binary_entry, echo, end, ending, entry, milliseconds, new_id, probe, wire};
use test_support::{Server, bad_fields, missing_resource, run, within};

async fn refused(server: &Server, script: Script) -> Status {
    let requests = tokio_stream::once(BidiStreamingRequest { script: Some(script), ..Default::default() });
    match within(probe(server.address).bidi_streaming(requests)).await {
        Ok(_) => panic!("it was performed"),
        Err(status) => status,
    }
}

fn steps(steps: Vec<Step>) -> Script {
    Script { steps, ..Script::default() }
}

fn initial(initial_metadata: Vec<MetadataEntry>) -> Script {
    Script { initial_metadata, ..Script::default() }
}

fn status(code: i32, message: &str, details: Vec<prost_types::Any>) -> Script {
    ending(Kind::Status(EndStatus { code, message: message.to_owned(), details }))
}

#[test]
fn each_bound_is_refused_by_the_name_of_its_field() {
    let too_long = wire(Duration::from_secs(3601));
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let any = |bytes| prost_types::Any { type_url: "x/y".to_owned(), value: vec![0; bytes] };
    let large = |repeat| Step { repeat, payload_bytes: 1 << 20, ..Step::default() };
    let cases = [
        ("script.call_id", Script { call_id: "1".to_owned(), ..Script::default() }),
        ("script.head_delay", Script { head_delay: too_long, ..Script::default() }),
        ("script.head_delay", Script { head_delay: negative, ..Script::default() }),
        ("script.read_delay", Script { read_delay: too_long, ..Script::default() }),
        ("script.steps", steps(vec![Step::default(); 1025])),
        ("script.steps", steps(vec![Step { repeat: (1 << 20) + 1, ..Step::default() }])),
        (
            "script.steps",
            steps(vec![Step { repeat: u32::MAX, payload_bytes: 16 << 20, ..Step::default() }; 1024]),
        ),
        ("script.steps", steps(vec![large(256), Step { payload_bytes: 1, ..Step::default() }])),
        ("script.steps[1].payload_bytes", {
            steps(vec![Step::default(), Step { payload_bytes: (16 << 20) + 1, ..Step::default() }])
        }),
        ("script.steps[0].delay", steps(vec![Step { delay: too_long, ..Step::default() }])),
        ("script.steps[0].echo", steps(vec![Step { payload_bytes: 1, ..echo(1) }])),
        ("script.initial_metadata", initial(vec![entry("a", "b"); 65])),
        ("script.initial_metadata", initial(vec![entry("a", &"b".repeat(16 << 10))])),
        ("script.trailing_metadata", {
            Script { trailing_metadata: vec![entry("a", "b"); 65], ..Script::default() }
        }),
        ("script.initial_metadata[0].text", initial(vec![entry("a", "ä")])),
        ("script.initial_metadata[0].text", initial(vec![entry("a", "b\r\nc: d")])),
        ("script.initial_metadata[0].text", initial(vec![entry("a-bin", "b")])),
        ("script.initial_metadata[1].binary", initial(vec![entry("a", "b"), binary_entry("a", &[1])])),
        ("script.ending.status.code", status(17, "", vec![])),
        ("script.ending.status.code", status(-1, "", vec![])),
        ("script.ending.status.message", status(1, &"x".repeat(4097), vec![])),
        ("script.ending.status.details", status(1, "", vec![any(0); 9])),
        ("script.ending.status.details", status(1, "", vec![any(8 << 10)])),
        ("script.ending.reset_code", ending(Kind::ResetCode(14))),
        ("script.ending.stall", ending(Kind::Stall(too_long.unwrap()))),
    ];
    run(async {
        let server = Server::start().await;
        for (field, script) in cases {
            assert_eq!(bad_fields(&refused(&server, script).await), [field]);
        }
        for key in ["", "Upper", "a b", ":path", "grpc-status", "te", "content-type", "connection", "ä"] {
            let refused = refused(&server, initial(vec![entry(key, "x")])).await;
            assert_eq!(bad_fields(&refused), ["script.initial_metadata[0].key"], "{key:?}");
        }
    });
}

#[test]
fn what_is_just_within_the_bounds_is_performed() {
    run(async {
        let server = Server::start().await;
        let any = prost_types::Any { type_url: String::new(), value: vec![0; (1 << 10) - 3] };
        let script = Script {
            initial_metadata: vec![entry("a", "b"); 64],
            trailing_metadata: vec![entry("a", &"b".repeat((16 << 10) - 1))],
            steps: vec![Step { repeat: 1024, ..Step::default() }; 1024],
            ending: end(Kind::Status(EndStatus {
                code: 16,
                message: "x".repeat(4096),
                details: vec![any; 8],
            })),
            ..Script::default()
        };
        let request = BidiStreamingRequest { script: Some(script), ..Default::default() };
        let answered = within(probe(server.address).bidi_streaming(tokio_stream::once(request))).await;
        assert_eq!(answered.unwrap().metadata().get_all("a").iter().count(), 64);
        let large = Step { repeat: 16, payload_bytes: 16 << 20, ..Step::default() };
        let script = Script { steps: vec![large], head_delay: milliseconds(0), ..Script::default() };
        let request = ServerStreamingRequest { script: Some(script), ..Default::default() };
        let mut responses =
            within(probe(server.address).server_streaming(request)).await.unwrap().into_inner();
        let first = within(responses.message()).await.unwrap().unwrap();
        assert_eq!(first.payload.len(), 16 << 20);
    });
}

#[test]
fn who_does_not_stream_has_nothing_to_echo() {
    run(async {
        let server = Server::start().await;
        let mut probe = probe(server.address);
        let script = Some(steps(vec![Step::default(), echo(1)]));
        let request = UnaryRequest { script: script.clone(), ..Default::default() };
        assert_eq!(bad_fields(&probe.unary(request).await.unwrap_err()), ["script.steps[1].echo"]);
        let request = ServerStreamingRequest { script, ..Default::default() };
        assert_eq!(bad_fields(&probe.server_streaming(request).await.unwrap_err()), ["script.steps[1].echo"]);
    });
}

#[test]
fn a_second_script_is_refused_also_in_the_midst_of_a_delay() {
    run(async {
        let server = Server::start().await;
        let delay = wire(Duration::from_secs(3600));
        let script = Some(steps(vec![Step { delay, ..Step::default() }]));
        let request = BidiStreamingRequest { script: script.clone(), ..Default::default() };
        let requests = tokio_stream::iter([request.clone(), request]);
        let mut responses = probe(server.address).bidi_streaming(requests).await.unwrap().into_inner();
        assert_eq!(bad_fields(&within(responses.message()).await.unwrap_err()), ["script"]);
        let request = ClientStreamingRequest { script, ..Default::default() };
        let requests = tokio_stream::iter([request.clone(), request]);
        let refused = within(probe(server.address).client_streaming(requests)).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["script"]);
    });
}

#[test]
fn an_observation_is_found_by_the_id_of_a_call_that_came() {
    run(async {
        let server = Server::start().await;
        let ask = async |call_id: &str| {
            let request = GetObservationRequest { call_id: call_id.to_owned() };
            within(probe(server.address).get_observation(request)).await.map(|it| it.into_inner().observation)
        };
        assert_eq!(bad_fields(&ask("1").await.unwrap_err()), ["call_id"]);
        let id = new_id();
        assert_eq!(missing_resource(&ask(&id).await.unwrap_err()), ("probe".to_owned(), id));
        // The newest 1,024 are remembered.
        let mut probe = probe(server.address);
        let ids: Vec<_> = (0..1025).map(|_| new_id()).collect();
        for id in &ids {
            let script = Some(Script { call_id: id.clone(), ..Script::default() });
            probe.unary(UnaryRequest { script, ..Default::default() }).await.unwrap();
        }
        assert!(ask(&ids[0]).await.is_err());
        assert!(ask(&ids[1]).await.unwrap().is_some_and(|observation| observation.ended));
        // One that comes again has the place of the first.
        let script = Some(Script { call_id: ids[1].clone(), ..Script::default() });
        probe.unary(UnaryRequest { script, ..Default::default() }).await.unwrap();
        assert!(ask(&ids[2]).await.unwrap().is_some());
    });
}

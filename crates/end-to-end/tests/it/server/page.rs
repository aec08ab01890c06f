//! The page of a server, by its events. `interop/node/page.test.js` has the browser.

use serde_json::Value;
use shared_proto::{
    fourmodes::v1::{MultiplyRequest, WatchQuotesRequest},
    testing::{Payload, SimpleRequest, test_service_client::TestServiceClient},
};
use test_support::{ServerProgram, Viewer, channel, eventually, run, server_streaming, unary};
use tonic::{Request, codec::CompressionEncoding};

use crate::server::binary;

/// Somebody who looks at the page of a server.
fn viewer_of(server: &ServerProgram) -> Viewer {
    let mut address = String::new();
    eventually(
        || {
            let log = server.log();
            let found = log.lines().find_map(|line| line.split_once("page at http://"));
            address = found.map(|(_, rest)| rest.trim_end_matches('/').to_owned()).unwrap_or_default();
            !address.is_empty()
        },
        "the log has no address",
    );
    Viewer::at(&address)
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[test]
fn a_call_is_shown_with_its_messages_and_without_its_secrets() {
    run(async {
        let server = binary(&["all", "--page", "127.0.0.1:0"]).serve();
        let mut viewer = viewer_of(&server);
        let mut request = Request::new(MultiplyRequest { a: 6, b: 7 });
        request.metadata_mut().insert("x-api-key", "hunter2".parse().unwrap());
        unary(server.address).multiply(request).await.unwrap();
        let events = viewer.until("trailers");
        assert_eq!(types(&events), ["headers", "message", "half_close", "headers", "message", "trailers"]);
        assert_eq!(events[0]["path"], "/fourmodes.v1.UnaryService/Multiply");
        assert_eq!(
            (&events[0]["mode"], &events[0]["metadata"]["x-api-key"]),
            (&"unary".into(), &"(masked)".into())
        );
        assert_eq!((&events[1]["from"], &events[1]["value"]["a"]), (&"client".into(), &"6".into()));
        assert_eq!((&events[4]["from"], &events[4]["value"]["product"]), (&"server".into(), &"42".into()));
        assert_eq!((&events[5]["code"], &events[5]["only"]), (&"OK".into(), &false.into()));

        let refused = MultiplyRequest { a: i64::MAX, b: 2 };
        unary(server.address).multiply(refused).await.unwrap_err();
        let events = viewer.until("trailers");
        assert_eq!(
            events.last().map(|end| (&end["code"], &end["only"])),
            Some((&"OUT_OF_RANGE".into(), &true.into()))
        );
    });
}

#[test]
fn a_call_that_is_given_up_is_shown_as_cancelled_and_goes_on_until_then() {
    run(async {
        let server = binary(&["all", "--page", "127.0.0.1:0"]).serve();
        let mut viewer = viewer_of(&server);
        let mut client = server_streaming(server.address);
        let mut quotes = client.watch_quotes(WatchQuotesRequest::default()).await.unwrap().into_inner();
        quotes.message().await.unwrap();
        let begun = viewer.until("half_close");
        assert_eq!(types(&begun), ["headers", "message", "half_close"]);
        viewer.until("message");
        drop((quotes, client));
        viewer.until("cancel");
    });
}

#[test]
fn a_compressed_message_is_shown_in_full() {
    run(async {
        let server = binary(&["all", "--page", "127.0.0.1:0"]).serve();
        let mut viewer = viewer_of(&server);
        let mut client =
            TestServiceClient::new(channel(server.address)).send_compressed(CompressionEncoding::Gzip);
        let payload = Some(Payload { body: vec![7; 9].into(), ..Payload::default() });
        let request = SimpleRequest { response_size: 5, payload, ..SimpleRequest::default() };
        client.unary_call(request).await.unwrap();
        let events = viewer.until("message");
        assert_eq!(events[0]["metadata"]["grpc-encoding"], "gzip", "{events:?}");
        assert_eq!(events.last().unwrap()["value"]["response_size"], 5, "{events:?}");
    });
}

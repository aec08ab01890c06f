//! One request, many responses.

mod log;

use grpc_wire::Mode;
use serde_json::{Value, json};
use test_support::BlockingServer as Server;

use crate::Called as _;

#[test]
fn quotes_come_in_order_and_are_counted() {
    let arguments = "server-streaming quotes --symbols ACME,DUNE --count 5 --interval 1ms --output json";
    let ended = Server::start().client(arguments).run().ok();
    let result = ended.result();
    let value = &result["value"];
    assert_eq!((&result["mode"], &result["scenario"]), (&json!("server-streaming"), &json!("quotes")));
    assert_eq!((&value["count"], &value["gaps"], &value["duplicates"]), (&json!(5), &json!(0), &json!(0)));
    let quotes: Vec<_> = ended
        .json()
        .into_iter()
        .filter(|line| line["from"] == "server" && line["type"] == "message")
        .collect();
    let sequence = |quote: &Value| quote["value"]["quote"]["sequence"].as_str().unwrap().parse().unwrap();
    let sequences: Vec<u64> = quotes.iter().map(sequence).collect();
    assert!(sequences.len() == 5 && sequences.is_sorted_by(|one, next| one < next), "{sequences:?}");
    let symbols = quotes.iter().map(|quote| quote["value"]["quote"]["symbol"].as_str().unwrap());
    assert!(symbols.into_iter().all(|symbol| ["ACME", "DUNE"].contains(&symbol)));
}

#[test]
fn thousands_of_messages_are_folded_in_text_and_whole_in_json() {
    let server = Server::start();
    for interval in ["0", "0s"] {
        let arguments = format!("server-streaming quotes --count 5000 --interval {interval}");
        let text = server.client(&arguments).run().ok().stdout;
        // Each pause that a busy machine makes is one more place to be seen.
        assert!(text.lines().count() < 500, "{text}");
        assert!(text.contains("message 5000  quote {sequence: "), "{text}");
        assert!(text.contains("as fast as flow control allows"), "{text}");
        assert!(text.contains("5,000 quotes in"), "{text}");
    }
    let ended = server.client("server-streaming quotes --count 5000 --interval 0s --output json").run().ok();
    let numbers =
        ended.json().into_iter().filter(|line| line["type"] == "message" && line["from"] == "server");
    assert!(numbers.map(|line| line["number"].as_u64().unwrap()).eq(1..=5000));
    assert_eq!(ended.result()["value"]["count"], 5000);
}

#[test]
fn a_fast_stream_of_many_quotes_is_complete() {
    let arguments = "server-streaming quotes --count 300000 --interval 0s --quiet --output json";
    let ended = Server::start().client(arguments).run().ok();
    assert_eq!(ended.stdout.lines().count(), 1, "quiet is the result alone");
    let value = &ended.result()["value"];
    assert_eq!(value["count"], 300_000);
    assert_eq!((&value["gaps"], &value["duplicates"]), (&json!(0), &json!(0)));
}

#[test]
fn system_reports_the_server_and_its_machine() {
    let arguments = "server-streaming system --interval 200ms --count 2 --output json";
    let value = Server::start().client(arguments).run().ok().result()["value"].clone();
    assert_eq!(value["count"], 2);
    assert!(value["latest"]["process_memory_bytes"].as_u64() > Some(1 << 20), "{value}");
    assert!(value["latest"]["machine_memory_total_bytes"].as_u64() > Some(1 << 20), "{value}");
}

#[test]
fn what_the_server_refuses_is_explained() {
    let server = Server::start();
    server
        .client("server-streaming quotes --symbols ACME,NOPE")
        .run()
        .failed(1, &["INVALID_ARGUMENT", "no such symbol: \"NOPE\"", "ACME, BOLT"]);
    for interval in ["0", "0s", "199ms"] {
        let arguments = format!("server-streaming system --interval {interval}");
        server.client(&arguments).run().failed(1, &["INVALID_ARGUMENT", "interval", "200ms"]);
    }
    server.client("server-streaming quotes --interval 2h").run().failed(1, &["INVALID_ARGUMENT", "7200s"]);
}

#[test]
fn a_deadline_ends_a_stream() {
    let server = Server::start();
    let ended = server
        .client("server-streaming quotes --count 0 --interval 10ms --deadline 200ms --output json")
        .run()
        .failed(1, &["DEADLINE_EXCEEDED", "--deadline"]);
    let result = ended.result();
    assert_eq!(result["error"]["code"], "DEADLINE_EXCEEDED");
    assert!(result["value"]["count"].as_u64() > Some(0), "what came before counts: {result}");
    // The server ends it as well, and may be first.
    let lines = ended.json();
    let has = |what: &str| lines.iter().any(|line| line["type"] == what);
    assert_eq!(has("cancel"), !has("trailers"), "{ended:?}");
    server.has_let_go_of(Mode::ServerStreaming);
}

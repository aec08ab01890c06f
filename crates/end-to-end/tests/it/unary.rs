//! One request, one response.

mod tasks;

use grpc_wire::Mode;
use serde_json::json;
use test_support::{BlockingServer as Server, eventually};

use crate::Called as _;

#[test]
fn multiply_gives_the_product_and_the_events_that_led_to_it() {
    let ended = Server::start().client("unary multiply -6 7 --output json").run().ok();
    let lines = ended.json();
    let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    // Whether the half-close is seen before the answer is up to the transport.
    let but_half_close: Vec<_> = types.iter().copied().filter(|kind| *kind != "half_close").collect();
    assert_eq!(
        but_half_close,
        ["connected", "headers", "message", "headers", "message", "trailers", "result"]
    );
    assert_eq!(types.len(), 8);
    assert_eq!(lines[1]["path"], "/fourmodes.v1.UnaryService/Multiply");
    assert!(lines[1]["metadata"]["grpc-timeout"].is_string(), "a deadline is always sent");
    assert_eq!(lines[2]["value"], json!({"a": "-6", "b": "7"}));
    assert_eq!(
        ended.result(),
        json!({"type": "result", "mode": "unary", "scenario": "multiply", "ok": true,
               "value": {"a": -6, "b": 7, "product": -42}})
    );
}

#[test]
fn an_overflow_is_explained_in_both_formats() {
    let server = Server::start();
    let arguments = "unary multiply 9223372036854775807 2";
    let words = ["OUT_OF_RANGE", "9223372036854775807 × 2", "INT64_OVERFLOW", "unary multiply at http://"];
    server.client(arguments).run().failed(1, &words);
    let result = server.client(arguments).arg("--output=json").run().failed(1, &words).result();
    assert_eq!(result["ok"], false);
    assert_eq!(result["error"]["code"], "OUT_OF_RANGE");
    assert_eq!(result["error"]["details"][0]["reason"], "INT64_OVERFLOW");
    assert_eq!(result["value"], json!({"a": i64::MAX, "b": 2}));
}

#[test]
fn status_counts_what_the_server_has_done() {
    let server = Server::start();
    server.client("unary multiply 1 2").run().ok();
    server.client("unary multiply 1 2").run().ok();
    // The call that asks is open itself.
    eventually(|| server.status(Mode::Unary).calls_open == 1, "a call that is over is still open");
    let status = server.client("unary status --output json").run().ok().result();
    let modes = status["value"]["modes"].as_array().unwrap();
    assert_eq!(modes.len(), 4);
    assert!(modes.iter().all(|mode| mode["served"] == true));
    assert_eq!(modes[0]["mode"], "unary");
    assert!(modes[0]["calls_started"].as_u64() >= Some(4), "{status}");
    assert!(modes[0]["messages_sent"].as_u64() >= Some(3), "{status}");
}

//! `--frames` on the commands of the client, which then shows what HTTP/2 does.

use serde_json::Value;
use stack::Settings;
use test_support::{BlockingServer as Server, Certs};

use crate::{Called as _, client};

/// What is there of a call to `multiply`, in order.
const MULTIPLY: [&str; 11] = [
    "connect http",
    "─ SETTINGS",
    "HEADERS /fourmodes.v1.UnaryService/Multiply",
    "─ HEADERS  stream 1",
    "before HPACK",
    "─ DATA  stream 1",
    "END_STREAM",
    "◀─",
    "DATA  stream 1  7 bytes: message 1 begins",
    "message 1  product: 42",
    "trailers  OK",
];

fn assert_in_order(drawn: &str, texts: &[&str]) {
    let mut rest = drawn;
    for text in texts {
        let (_, after) =
            rest.split_once(text).unwrap_or_else(|| panic!("no {text:?} in its place in:\n{drawn}"));
        rest = after;
    }
}

#[test]
fn a_scenario_teaches_http2() {
    let server = Server::start();
    let drawn = server.client("unary multiply 6 7 --frames").run().ok().stdout;
    assert_in_order(&drawn, &MULTIPLY);
    let without = server.client("unary multiply 6 7").run().ok().stdout;
    assert!(!without.contains("SETTINGS"), "{without}");
}

#[test]
fn frames_are_seen_above_tls() {
    let certs = Certs::new();
    let settings = Settings { tls: Some(certs.server()), ..Settings::default() };
    let server = Server::with(settings.into());
    let drawn = certs.trusted_by(server.client("unary multiply 6 7 --frames")).run().ok().stdout;
    assert_in_order(&drawn, &MULTIPLY);
}

#[test]
fn call_draws_the_frames_of_its_own_connection() {
    let server = Server::start();
    let call =
        client("call --frames").arg(&server.url).args("fourmodes.v1.UnaryService/Multiply --repeat 2 -d");
    let drawn = call.arg(r#"{"a": 6, "b": 7}"#).run().ok().stdout;
    // Those of the reflection are not among them.
    assert_in_order(&drawn, &MULTIPLY);
    // What the table saves on the second call.
    let coded = |stream: &str| -> u64 {
        let (_, line) = drawn.split_once(&format!("HEADERS  {stream}")).unwrap();
        line.split_once(" in ").unwrap().1.split_once(' ').unwrap().0.parse().unwrap()
    };
    assert!(coded("stream 3") * 2 < coded("stream 1"), "{drawn}");
}

#[test]
fn each_client_of_a_demonstration_has_its_frames() {
    let server = Server::start();
    let drawn = server.client("bidi-streaming --frames --output json").run().ok().stdout;
    let frames = drawn.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let frames: Vec<_> = frames.filter(|line| line["what"] == "frame").collect();
    let of = |client: &str| frames.iter().filter(|frame| frame["call"] == client).count();
    assert!(of("ana") > 4 && of("ben") > 4, "{frames:?}");
}

#[test]
fn commands_without_a_diagram_refuse_frames() {
    for command in ["check", "measure", "net-rpc multiply 6 7", "replay x", "show x"] {
        client(command).args("--frames").run().failed(2, &["draws no frames", "--frames"]);
    }
}

//! Go's net/rpc, called and drawn. What Go's own server answers is in `interop/go`.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
};

use serde_json::{Value, json};
use test_support::{Program, ServerProgram};

use crate::{client, server};

fn calling(server: &ServerProgram, arguments: &str) -> Program {
    client(&format!("net-rpc multiply {arguments} --address {}", server.address))
}

#[test]
fn each_transport_is_drawn_as_request_and_response() {
    let server = server("net-rpc").serve();
    for transport in ["tcp", "http", "json"] {
        let shown = calling(&server, &format!("10 -20 --transport {transport}")).run().ok().stdout;
        for words in ["request 0  MathService.Multiply  A: 10  B: -20", "response 0  -200", "10 × -20 = -200"]
        {
            assert!(shown.contains(words), "{transport}: no {words} in\n{shown}");
        }
    }
}

#[test]
fn programs_get_the_messages_and_the_result() {
    let server = server("net-rpc").serve();
    let ended = calling(&server, "10 20 --transport json --output json").run().ok();
    let events = ended.json();
    let event = |kind: &str| events.iter().find(|event| event["type"] == kind).unwrap().clone();
    let request = br#"{"method":"MathService.Multiply","params":[{"A":10,"B":20}],"id":0}"#.len() + 1;
    let expected = json!({
        "type": "request", "call": "client", "from": "client", "seq": 0, "bytes": request,
        "method": "MathService.Multiply", "value": {"A": 10, "B": 20},
    });
    assert_eq!(without_time(event("request")), expected);
    // The end of its line counts for the next one.
    let response = br#"{"id":0,"result":200,"error":null}"#.len();
    let expected = json!({"type": "response", "call": "client", "from": "server", "seq": 0, "bytes": response, "value": 200});
    assert_eq!(without_time(event("response")), expected);
    let result = ended.result();
    assert_eq!(
        (&result["mode"], &result["scenario"], &result["ok"]),
        (&json!("net-rpc"), &json!("multiply"), &json!(true))
    );
    assert_eq!(
        result["value"],
        json!({"transport": "json", "products": [{"a": 10, "b": 20, "product": 200}]})
    );
}

fn without_time(mut event: Value) -> Value {
    event.as_object_mut().unwrap().remove("at_ms");
    event
}

#[test]
fn two_calls_are_under_way_at_a_time_and_answers_overtake() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let diagram = directory.path().join("calls.mmd");
    // Answers when both are there, the second one first.
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let requests: Vec<_> = BufReader::new(&socket).lines().take(2).map(Result::unwrap).collect();
        for id in [1, 0] {
            writeln!(socket, r#"{{"id":{id},"result":{},"error":null}}"#, 200 + id).unwrap();
        }
        requests
    });
    let arguments =
        format!("net-rpc multiply 10 20 --async --transport json --output json --address {address}");
    let ended = client(&arguments).arg("--diagram").arg(&diagram).run().ok();
    let requests = server.join().unwrap();
    assert!(
        requests[0].contains(r#"{"A":10,"B":20}"#) && requests[1].contains(r#"{"A":20,"B":10}"#),
        "{requests:?}"
    );
    let events = ended.json();
    let events: Vec<_> =
        events.iter().map(|event| (event["type"].as_str().unwrap(), &event["seq"])).collect();
    let (zero, one, none) = (&json!(0), &json!(1), &Value::Null);
    let expected = [
        ("connected", none),
        ("request", zero),
        ("request", one),
        ("response", one),
        ("response", zero),
        ("result", none),
    ];
    assert_eq!(events, expected);
    let diagram = std::fs::read_to_string(diagram).unwrap();
    for line in [
        "client->>server: request 1  MathService.Multiply  A: 20  B: 10",
        "server-->>client: response 1  201",
    ] {
        assert!(diagram.contains(line), "no {line} in\n{diagram}");
    }
}

#[test]
fn an_error_is_the_text_of_the_server() {
    let server = server("net-rpc").serve();
    let ended = calling(&server, "9223372036854775807 2").run();
    let text = "9223372036854775807 × 2 does not fit into a signed 64-bit integer";
    let ended = ended.failed(1, &["SERVER_ERROR", text, "no status codes"]);
    assert!(ended.stdout.contains(&format!("response 0  {text}")), "{}", ended.stdout);
}

/// A server that reads a request, says `answer` and goes.
fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        assert!(socket.read(&mut [0; 1024]).unwrap() > 0);
        socket.write_all(answer).unwrap();
    });
    address
}

#[test]
fn a_server_that_is_none_or_speaks_otherwise_is_named() {
    let refused = client("net-rpc multiply 1 2 --address 127.0.0.1:1").run();
    refused.failed(1, &["UNAVAILABLE", "fourmodes-server net-rpc", "--address"]);
    let http = answering(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    let page = client(&format!("net-rpc multiply 1 2 --address {http}")).run();
    page.failed(1, &["UNAVAILABLE", "try another --transport"]);
    let page = answering(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n");
    let page = client(&format!("net-rpc multiply 1 2 --transport http --address {page}")).run();
    page.failed(1, &["unexpected HTTP response: 404 Not Found", "try another --transport"]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let late =
        client(&format!("net-rpc multiply 1 2 --transport json --deadline 50ms --address {address}")).run();
    late.failed(1, &["DEADLINE_EXCEEDED", "not done after 50ms", "expects another transport"]);
}

#[test]
fn an_address_without_a_port_is_a_usage_error() {
    for address in ["localhost", "127.0.0.1:1234/path", "http://127.0.0.1:1234", ""] {
        let program = client("net-rpc multiply 1 2 --address").arg(address);
        program.run().failed(2, &["write it as 127.0.0.1:1234"]);
    }
}

//! `watch --page`: what passes, and calls of its own. `interop/node/page.test.js` has the
//! browser.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::{Value, json};
use test_support::{BlockingServer as Server, LONG, Viewer};

use super::{Watching, watch};

/// A watch with a page, and the address of the page.
fn paged(server: &Server, arguments: &str) -> (Watching, String) {
    let mut running = watch(&server.url, "--page 127.0.0.1:0").args(arguments).spawn();
    let warnings = running.warnings();
    let url = warnings.until("watching ");
    let url = url.strip_prefix("watching ").and_then(|line| line.split(',').next()).unwrap().to_owned();
    let page = warnings.until("page at ");
    let page = page.trim().strip_prefix("page at http://").unwrap().trim_end_matches('/').to_owned();
    let drawn = running.lines();
    (Watching { url, drawn, running }, page)
}

/// What comes of a question of the page.
fn ask(page: &str, question: &Value) -> Value {
    let body = question.to_string();
    let mut socket = TcpStream::connect(page).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let head = format!("POST /ask HTTP/1.1\r\nHost: {page}\r\nOrigin: http://{page}\r\n");
    let length = body.len();
    let head = format!(
        "{head}Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn begin(page: &str, method: &str, message: &str) -> Value {
    ask(page, &json!({ "do": "begin", "method": format!("fourmodes.v1.{method}"), "message": message }))
}

/// The types of events, but for windows, whose number is a matter of time.
fn types(events: &[Value]) -> Vec<&str> {
    let types = events.iter().map(|event| event["type"].as_str().unwrap());
    types.filter(|kind| *kind != "window").collect()
}

#[test]
fn calls_that_pass_are_shown_with_their_windows() {
    let server = Server::start();
    let (watching, page) = paged(&server, "--quiet");
    let mut viewer = Viewer::at(&page);
    watching.client("unary multiply 6 7").run().ok();
    let events = viewer.until("trailers");
    assert_eq!(types(&events), ["headers", "message", "half_close", "headers", "message", "trailers"]);
    assert_eq!((&events[0]["call"], &events[0]["mode"]), (&json!(1), &json!("unary")));
    for from in ["client", "server"] {
        let window = events.iter().find(|event| event["type"] == "window" && event["from"] == from);
        let left = window.unwrap()["left"].as_i64().unwrap();
        assert!((1 << 15..1 << 30).contains(&left), "{from}: {left}");
    }
    watching.end();
}

#[test]
fn the_page_makes_calls_in_all_four_modes() {
    let server = Server::start();
    let (watching, page) = paged(&server, "--quiet");
    let mut viewer = Viewer::at(&page);
    let methods = ask(&page, &json!({ "do": "methods" }));
    let methods = methods["methods"].as_array().unwrap();
    let multiply = methods.iter().find(|it| it["path"] == "fourmodes.v1.UnaryService/Multiply").unwrap();
    assert_eq!(multiply["mode"], "unary");
    assert!(multiply["template"].as_str().unwrap().contains("\"a\""), "{multiply}");

    let call = begin(&page, "UnaryService/Multiply", r#"{"a": 6, "b": "7"}"#);
    let events = viewer.until("trailers");
    assert!(events.iter().all(|event| event["call"] == call["call"]), "{call} {events:?}");
    assert!(events.iter().any(|event| event["value"]["product"] == "42"), "{events:?}");

    let options = json!({
        "do": "begin",
        "method": "fourmodes.v1.UnaryService/Multiply",
        "message": "{}",
        "metadata": "x-own: seen\n\nauthorization: Bearer nobody",
        "deadline": "5s",
    });
    ask(&page, &options);
    let metadata = viewer.until("trailers")[0]["metadata"].clone();
    assert_eq!((&metadata["x-own"], &metadata["authorization"]), (&json!("seen"), &json!("(masked)")));
    assert!(metadata["grpc-timeout"].is_string(), "{metadata}");

    let call = begin(&page, "ServerStreamingService/WatchQuotes", r#"{"symbols": ["ACME"]}"#);
    viewer.until("message");
    assert_eq!(ask(&page, &json!({ "do": "cancel", "call": call["call"] })), json!({}));
    viewer.until("cancel");

    let call = begin(&page, "ClientStreamingService/RecordReadings", "{}");
    let act = |what: &str| ask(&page, &json!({ "do": what, "call": call["call"], "message": "{}" }));
    assert_eq!(act("half_close"), json!({}));
    assert!(act("send")["error"].as_str().is_some(), "{call}");
    viewer.until("trailers");

    let call = begin(&page, "BidiStreamingService/Chat", "");
    let id = "7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42";
    let send = |message: Value| {
        ask(&page, &json!({ "do": "send", "call": call["call"], "message": message.to_string() }))
    };
    let heard = |viewer: &mut Viewer, what: &str| {
        while !viewer.until("message").last().unwrap()["value"]["event"][what].is_object() {}
    };
    assert_eq!(send(json!({ "join": { "room": "r", "name": "ana", "memberId": id } })), json!({}));
    heard(&mut viewer, "joined");
    assert_eq!(send(json!({ "post": { "text": "hello", "messageId": id } })), json!({}));
    heard(&mut viewer, "posted");
    assert_eq!(ask(&page, &json!({ "do": "half_close", "call": call["call"] })), json!({}));
    assert_eq!(viewer.until("trailers").last().unwrap()["code"], "OK");
    watching.end();
}

#[test]
fn what_the_page_asks_wrongly_is_said() {
    let server = Server::start();
    let (watching, page) = paged(&server, "--quiet");
    let wrong = |answer: Value, text: &str| {
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(text)), "{text}: {answer}");
    };
    wrong(begin(&page, "UnaryService/Nothing", "{}"), "nothing is known of a method");
    wrong(begin(&page, "UnaryService/Multiply", r#"{"c": 1}"#), "c");
    let with = |options: Value| {
        let mut question =
            json!({ "do": "begin", "method": "fourmodes.v1.UnaryService/Multiply", "message": "{}" });
        question.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        ask(&page, &question)
    };
    wrong(with(json!({ "metadata": "no colon" })), "metadata: write it as 'key: value'");
    wrong(with(json!({ "deadline": "soon" })), "deadline: ");
    wrong(ask(&page, &json!({ "do": "cancel", "call": 99 })), "call 99 is over");
    wrong(ask(&page, &json!({ "do": "dance" })), "dance");
    // One that is open keeps nobody from ending it.
    let open = begin(&page, "ServerStreamingService/WatchQuotes", r#"{"symbols": ["ACME"]}"#);
    assert!(open["call"].is_u64(), "{open}");
    watching.end();
}

#[test]
fn a_server_that_is_gone_is_named_to_the_page() {
    let server = Server::start();
    let (watching, page) = paged(&server, "--quiet");
    begin(&page, "UnaryService/Multiply", "{}");
    drop(server);
    let answer = begin(&page, "UnaryService/Multiply", "{}");
    assert!(answer["error"].is_string(), "{answer}");
    watching.end();
}

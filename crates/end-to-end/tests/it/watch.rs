//! `fourmodes watch` between the client and the server.

mod page;
mod recorded;

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
};

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
    ServiceDescriptorProto, field_descriptor_proto,
};
use serde_json::Value;
use stack::Settings;
use test_support::{
    BlockingServer as Server, Certs, Ended, Lines, Program, Running, Signal, eventually, run,
};

use crate::{Called as _, client};

/// A watch that runs, where it listens, and what it draws.
struct Watching {
    url: String,
    drawn: Lines,
    running: Running,
}

impl Watching {
    fn start(watch: Program) -> Self {
        let mut running = watch.spawn();
        let line = running.warnings().until("watching ");
        let url = line.strip_prefix("watching ").and_then(|line| line.split(',').next()).unwrap().to_owned();
        Self { url, drawn: running.lines(), running }
    }

    fn before(server: &Server, arguments: &str) -> Self {
        Self::start(watch(&server.url, arguments))
    }

    /// The client, which calls through it.
    fn client(&self, arguments: &str) -> Program {
        client(arguments).env("FOURMODES_SERVER", &self.url)
    }

    /// Ends it, as a user does, and gives what was drawn up to the outcome.
    fn end(mut self) -> String {
        self.running.signal(Signal::INT);
        let drawn = self.drawn.rest();
        assert_eq!(self.running.wait().code, Some(0), "{drawn}");
        drawn
    }

    fn json(self) -> Vec<Value> {
        self.end().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn watch(to: &str, arguments: &str) -> Program {
    client("watch --listen 127.0.0.1:0 --to").arg(to).args(arguments)
}

/// The types of the events of each call, in order.
fn by_call(events: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut calls = BTreeMap::<_, Vec<_>>::new();
    for event in
        events.iter().filter(|event| event["call"].as_str().is_some_and(|call| call.starts_with("call")))
    {
        let from = event["from"].as_str().unwrap_or_default();
        let text = format!("{} {from}", event["type"].as_str().unwrap());
        calls.entry(event["call"].as_str().unwrap().to_owned()).or_default().push(text.trim().to_owned());
    }
    calls
}

#[test]
fn calls_of_all_four_modes_are_drawn() {
    let server = Server::start();
    let watching = Watching::before(&server, "--output json");
    watching.client("unary multiply 6 7").run().ok();
    watching.client("server-streaming quotes --symbols ACME --count 3").run().ok();
    let readings = "device,time,value\na,1,2.5\na,2,3.5\n";
    watching.client("client-streaming readings -").stdin(readings).run().ok();
    watching.client("bidi-streaming chat --room r --name ana").stdin("hello\n").run().ok();
    let events = watching.json();
    let requests: Vec<_> = events.iter().filter_map(|event| event["path"].as_str()).collect();
    for method in ["UnaryService/Multiply", "WatchQuotes", "RecordReadings", "BidiStreamingService/Chat"] {
        assert!(requests.iter().any(|path| path.ends_with(method)), "no {method} in {requests:?}");
    }
    let multiply = &by_call(&events)["call 1"];
    assert_eq!(
        multiply.join(", "),
        "headers client, message client, half_close client, headers server, message server, trailers server"
    );
    let product =
        events.iter().find(|event| event["type"] == "message" && event["from"] == "server").unwrap();
    assert_eq!(product["value"]["product"], "42", "{product}");
    let result = events.last().unwrap();
    assert_eq!(result["value"]["unseen"], 0, "{result}");
    assert_eq!(result["value"]["open"], 0, "{result}");
}

#[test]
fn a_call_is_drawn_while_it_runs() {
    let server = Server::start();
    let watching = Watching::before(&server, "");
    let mut quotes = watching.client("server-streaming quotes --symbols ACME --count 0").spawn();
    watching.drawn.until("HEADERS /fourmodes.v1.ServerStreamingService/WatchQuotes");
    watching.drawn.until("call 1: message 1  quote {");
    watching.drawn.until("call 1: message 3  quote {");
    quotes.signal(Signal::INT);
    quotes.wait();
    // Whether it resets the stream before the connection ends is up to it.
    let ends = ["cancel", "broken: the client closed", "broken: the connection of the client broke"];
    let is_end = |line: &str| ends.iter().any(|end| line.contains(&format!("call 1: {end}")));
    while !is_end(&watching.drawn.until("call 1: ")) {}
    let drawn = watching.end();
    assert!(drawn.contains("1 call with ") && !drawn.contains("not over"), "{drawn}");
}

/// Of each check, what came of it.
fn verdicts(check: Program) -> BTreeMap<String, String> {
    let checks = check.args("--output json").run().json();
    let checks = checks.iter().filter(|line| line["type"] == "check");
    let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
    checks
        .map(|check| {
            let name = format!("{}/{}", text(check, "group"), text(check, "name"));
            (name, format!("{} {}", text(check, "outcome"), text(check, "cause")))
        })
        .collect()
}

#[test]
fn check_finds_nothing_in_between() {
    let server = Server::start();
    let watching = Watching::before(&server, "--frames");
    let (directly, through) = (verdicts(server.client("check")), verdicts(watching.client("check")));
    assert!(directly.len() > 20 && directly.contains_key("control/reset"), "{directly:#?}");
    assert_eq!(through, directly);
    assert!(through.values().all(|verdict| !verdict.starts_with("fail")), "{through:#?}");
    watching.end();
}

#[test]
fn tls_ends_and_begins_again() {
    let certs = Certs::new();
    let settings = Settings { tls: Some(certs.server()), ..Settings::default() };
    let (with, without) = (Server::with(settings.into()), Server::start());
    let tls = |watch: Program| {
        let watch = watch.arg("--tls-cert").arg(certs.path("server.pem"));
        watch.arg("--tls-key").arg(certs.path("server-key.pem"))
    };
    let ca = |program: Program| certs.trusted_by(program);
    for (watch, is_tls) in [
        (tls(ca(watch(&with.url, "--output json"))), true),
        (ca(watch(&with.url, "--output json")), false),
        (tls(watch(&without.url, "--output json")), true),
    ] {
        let watching = Watching::start(watch);
        assert_eq!(watching.url.starts_with("https://"), is_tls);
        let call = watching.client("unary multiply 6 7");
        let ended = if is_tls { ca(call) } else { call }.run().ok();
        assert!(ended.stdout.contains("42"), "{ended:?}");
        assert!(by_call(&watching.json()).contains_key("call 1"));
    }
}

#[test]
fn a_client_and_a_watch_that_disagree_about_tls_are_told() {
    let certs = Certs::new();
    let server = Server::start();
    let watching = Watching::before(&server, "");
    let https = watching.url.replace("http://", "https://");
    certs.trusted_by(client("unary multiply 6 7 --reconnect 0s --server").arg(https)).run().failed(1, &[]);
    watching.drawn.until("no longer decoded: the client speaks TLS");
    watching.end();
    let tls = watch(&server.url, "").arg("--tls-cert").arg(certs.path("server.pem"));
    let watching = Watching::start(tls.arg("--tls-key").arg(certs.path("server-key.pem")));
    let http = watching.url.replace("https://", "http://");
    client("unary multiply 6 7 --reconnect 0s --server").arg(http).run().failed(1, &["TLS"]);
    watching.drawn.until("TLS handshake failed");
    watching.end();
}

#[test]
fn a_server_that_is_not_there_is_answered_for_and_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let watching = Watching::start(watch(&format!("http://{address}"), ""));
    let call = watching.client("unary multiply 6 7 --max-attempts 1 --reconnect 0s").run();
    call.failed(1, &["UNAVAILABLE", "is unreachable", "is the server running?"]);
    let broken = watching.drawn.until("call 1: broken:");
    assert!(broken.contains(&address.to_string()), "{broken}");
    watching.end();
}

#[test]
fn a_server_that_is_none_of_grpc_is_named() {
    // It answers everything in HTTP/1.1, and hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let watching = Watching::start(watch(&format!("http://{address}"), ""));
    watching.client("unary multiply 6 7 --max-attempts 1 --reconnect 0s").run().failed(1, &[]);
    watching.drawn.until("the server answers in HTTP/1.1");
    watching.end();
}

fn refused(watch: Program, code: i32, words: &[&str]) -> Ended {
    watch.run().failed(code, words)
}

#[test]
fn what_makes_no_sense_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("watch --listen {}", taken.local_addr().unwrap());
    refused(client(&taken), 1, &["cannot listen on", "--listen"]);
    refused(client("watch --server a:1,b:2"), 2, &["one server"]);
    refused(client("watch --diagram x.mmd"), 2, &["--diagram-dir"]);
    refused(client("watch --tls-cert x.pem"), 2, &["--tls-key"]);
    refused(client("watch --listen 127.0.0.1:0 --tls-cert x.pem --tls-key y.pem"), 3, &["x.pem"]);
    refused(client("watch --only /"), 2, &["SERVICE/METHOD"]);
    refused(client("watch --status NEVER"), 2, &["is no status"]);
}

#[test]
fn only_the_calls_that_were_asked_for_are_drawn() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let calls = |arguments: &str| {
        let watch = watch(&server.url, arguments).arg("--diagram-dir").arg(directory.path());
        let watching = Watching::start(watch.args("--output json"));
        watching.client("unary multiply 6 7").run().ok();
        watching.client("unary task 01939f6c-8a1b-7c2d-9e3f-0123456789ab").run();
        by_call(&watching.json()).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(calls(""), ["call 1", "call 2"]);
    let mut files: Vec<_> = directory
        .path()
        .read_dir()
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        ["0001-fourmodes.v1.UnaryService-Multiply.mmd", "0002-fourmodes.v1.UnaryService-GetTask.mmd"]
    );
    let diagram = std::fs::read_to_string(directory.path().join(&files[0])).unwrap();
    assert!(
        diagram.starts_with("sequenceDiagram\n") && diagram.contains("message 1  a: 6  b: 7"),
        "{diagram}"
    );
    assert_eq!(calls("--only UnaryService/Multiply"), ["call 1"]);
    assert_eq!(calls("--only BidiStreamingService"), [""; 0]);
    assert_eq!(calls("--status NOT_FOUND"), ["call 2"]);
    assert_eq!(calls("--slower-than 1h"), [""; 0]);
    assert_eq!(calls("--slower-than 0s"), ["call 1", "call 2"]);
}

#[test]
fn a_call_that_is_slow_is_drawn_before_its_end() {
    let server = Server::start();
    let watching = Watching::before(&server, "--slower-than 100ms");
    let quotes = watching.client("server-streaming quotes --symbols ACME --count 0").spawn();
    watching.drawn.until("WatchQuotes");
    watching.drawn.until("message 1  quote {");
    drop(quotes);
    watching.end();
}

#[test]
fn frames_show_what_http2_does() {
    let server = Server::start();
    let watching = Watching::before(&server, "--frames");
    watching.client("unary multiply 6 7").run().ok();
    let drawn = watching.end();
    for text in [
        "connection 1: SETTINGS",
        "SETTINGS  ACK",
        "call 1: HEADERS  stream 1",
        "before HPACK",
        "from the table",
        "call 1: DATA  stream 1",
        "bytes: message 1 begins",
        "  END_STREAM",
        "connection 1: WINDOW_UPDATE  connection",
    ] {
        assert!(drawn.contains(text), "no {text:?} in:\n{drawn}");
    }
}

/// A server that has reflection, and says that it has `lab.Echo`.
async fn server_of_others() -> SocketAddr {
    let string = Some(field_descriptor_proto::Type::String.into());
    let text = FieldDescriptorProto {
        name: Some("text".into()),
        number: Some(1),
        r#type: string,
        ..Default::default()
    };
    let word = DescriptorProto { name: Some("Word".into()), field: vec![text], ..Default::default() };
    let of_words = || Some(".lab.Word".to_owned());
    let say = MethodDescriptorProto {
        name: Some("Say".into()),
        input_type: of_words(),
        output_type: of_words(),
        ..Default::default()
    };
    let file = FileDescriptorProto {
        name: Some("lab.proto".into()),
        package: Some("lab".into()),
        message_type: vec![word],
        service: vec![ServiceDescriptorProto {
            name: Some("Echo".into()),
            method: vec![say],
            ..Default::default()
        }],
        syntax: Some("proto3".into()),
        ..Default::default()
    };
    let files = FileDescriptorSet { file: vec![file] };
    let reflection = tonic_reflection::server::Builder::configure().register_file_descriptor_set(files);
    let reflection = reflection.build_v1().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(reflection).serve_with_incoming(incoming));
    address
}

/// Of `lab.Echo.Say`, in one piece: the server answers before it has read the message.
fn call() -> Vec<u8> {
    let block = [&[0x83, 0x04, 13][..], b"/lab.Echo/Say", &[0x0f, 0x10, 16], b"application/grpc"].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let headers = [0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1];
    let data = b"\0\0\x0a\0\x01\0\0\0\x01\0\0\0\0\x05\x0a\x03ana";
    [&preface[..], &settings, &headers, &block, data].concat()
}

#[test]
fn messages_are_shown_by_what_the_server_or_a_file_says_of_them() {
    run(async {
        let address = server_of_others().await;
        let directory = tempfile::tempdir().unwrap();
        let [lab, none] = ["lab.proto", "none.proto"].map(|name| directory.path().join(name));
        let proto = "syntax = \"proto3\"; package lab; message Word { string word = 1; }";
        std::fs::write(&lab, format!("{proto} service Echo {{ rpc Say(Word) returns (Word); }}")).unwrap();
        std::fs::write(&none, proto.replace("lab", "none")).unwrap();
        let url = format!("http://{address}");
        for (watch, expected) in [
            (watch(&url, ""), "message 1  text: ana"),
            (watch(&url, "--proto").arg(&lab), "message 1  word: ana"),
            (watch(&url, "--proto").arg(&none), r#"message 1  1: "ana""#),
        ] {
            let watching = Watching::start(watch);
            let mut client = TcpStream::connect(watching.url.strip_prefix("http://").unwrap()).unwrap();
            client.write_all(&call()).unwrap();
            watching.drawn.until(expected);
            watching.end();
        }
        refused(watch(&url, "--proto missing.proto"), 3, &["missing.proto"]);
        refused(watch(&url, "--descriptors").arg(&lab), 3, &["lab.proto"]);
    });
}

#[test]
fn compressed_messages_are_shown_in_full() {
    let server = Server::start();
    let watching = Watching::before(&server, "--output json");
    let call = format!("call {} grpc.testing.TestService/UnaryCall --compress gzip -d", watching.url);
    client(&call).arg(r#"{"responseSize": 5}"#).run().ok();
    let events = watching.json();
    assert!(events.iter().any(|event| event["metadata"]["grpc-encoding"] == "gzip"), "{events:?}");
    let sent = events.iter().find(|event| event["value"]["response_size"] == 5);
    assert!(sent.is_some(), "{events:?}");
}

#[test]
fn metadata_that_is_secret_is_masked() {
    let server = Server::start();
    let watching = Watching::before(&server, "--output json");
    watching.client("unary multiply 6 7").env("FOURMODES_TOKEN", "sesame").run();
    let drawn = watching.end();
    assert!(drawn.contains("(masked)") && !drawn.contains("sesame"), "{drawn}");
}

#[test]
fn a_terminal_that_takes_nothing_keeps_no_call_waiting() {
    let server = Server::start();
    // Nobody reads what is drawn.
    let mut running = watch(&server.url, "--output json").spawn();
    let line = running.warnings().until("watching ");
    let url = line.strip_prefix("watching ").and_then(|line| line.split(',').next()).unwrap().to_owned();
    for _ in 0..3 {
        let measured = client("measure --only server-streaming --messages 20000 --warmup 0s --server");
        measured.arg(&url).run().ok();
    }
    let mut drawn = String::new();
    let stdout = running.child.stdout.take().unwrap();
    running.signal(Signal::INT);
    std::io::Read::read_to_string(&mut { stdout }, &mut drawn).unwrap();
    let result: Value = serde_json::from_str(drawn.lines().last().unwrap()).unwrap();
    assert!(result["value"]["calls"].as_u64().unwrap() >= 3, "{result}");
    eventually(|| running.child.try_wait().unwrap().is_some(), "watch does not end");
}

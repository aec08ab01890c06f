//! Ctrl-C, a reader that goes away, a server that dies.
#![cfg(unix)]

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use grpc_wire::Mode;
use serde_json::Value;
use test_support::{BlockingServer as Server, Running, Signal, eventually, listener};

use crate::{Called as _, client};

fn endless(server: &Server) -> Running {
    server.client("server-streaming quotes --count 0 --interval 1ms --output json").spawn()
}

#[test]
fn an_interrupt_cancels_the_call_and_reports_what_there_was() {
    let server = Server::start();
    for signal in [Signal::INT, Signal::TERM] {
        let mut stream = endless(&server);
        let lines = stream.lines();
        lines.until(r#""number":10,"#);
        stream.signal(signal);
        lines.until(r#""type":"cancel""#);
        let result: Value = serde_json::from_str(&lines.until(r#""type":"result""#)).unwrap();
        assert_eq!((&result["ok"], &result["error"]["code"]), (&false.into(), &"INTERRUPTED".into()));
        assert!(result["value"]["count"].as_u64() >= Some(10), "{result}");
        assert_eq!(stream.wait().code, Some(130));
        server.has_let_go_of(Mode::ServerStreaming);
    }
}

#[test]
fn an_interrupt_ends_a_chat_that_waits_for_a_line_and_a_call_that_waits_for_input() {
    let server = Server::start();
    let mut chat = server.client("bidi-streaming chat --room r --name ana").spawn();
    chat.lines().until("joined");
    chat.signal(Signal::INT);
    assert_eq!(chat.wait().code, Some(130));
    server.has_let_go_of(Mode::BidiStreaming);

    let mut readings = server.client("client-streaming readings -").spawn();
    readings.say("device,time,value");
    // A call ends now and then, so that what it has delivered is acknowledged.
    let is_calling = || {
        readings.say("a,0,1");
        server.status(Mode::ClientStreaming).calls_open == 1
    };
    eventually(is_calling, "the call does not begin");
    readings.signal(Signal::INT);
    assert_eq!(readings.wait().code, Some(130));
    server.has_let_go_of(Mode::ClientStreaming);
}

/// How much a pipe takes is known for this system alone.
#[cfg(target_os = "linux")]
#[test]
fn a_second_interrupt_ends_a_client_that_cannot_write() {
    let (listener, address) = listener();
    let (reader, mut writer) = std::io::pipe().unwrap();
    // As much as a pipe takes: the first line of the client has to wait.
    writer.write_all(&[b'x'; 65_536]).unwrap();
    let stream = client(&format!("--server {address} unary status --output json")).stdout(writer);
    let mut stream = stream.spawn();
    let connection = listener.accept().unwrap();
    stream.signal(Signal::INT);
    assert_eq!(stream.child.try_wait().unwrap(), None);
    eventually(
        || {
            stream.signal(Signal::INT);
            stream.child.try_wait().unwrap().is_some()
        },
        "the client does not end",
    );
    assert_eq!(stream.wait().code, Some(130));
    drop((reader, connection));
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_client() {
    let server = Server::start();
    let mut stream = endless(&server);
    let mut head = Command::new("head")
        .args(["-n", "3"])
        .stdin(stream.child.stdout.take().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(stream.wait().code, Some(141));
    head.wait().unwrap();
    server.has_let_go_of(Mode::ServerStreaming);
}

#[test]
fn a_client_that_is_killed_leaves_nothing_behind() {
    let server = Server::start();
    let mut stream = endless(&server);
    stream.lines().until("sequence");
    let mut chat = server.client("bidi-streaming chat --room r --name ana").spawn();
    chat.lines().until("joined");
    drop((stream, chat));
    server.has_let_go_of(Mode::ServerStreaming);
    server.has_let_go_of(Mode::BidiStreaming);
    // The name is free again.
    server.client("bidi-streaming chat --room r --name ana").run().ok();
}

#[test]
fn a_server_that_dies_is_a_failure_and_no_end() {
    let server = Server::start();
    let quotes = "server-streaming quotes --count 0 --interval 1ms --output json --reconnect 0s";
    let mut stream = server.client(quotes).spawn();
    let lines = stream.lines();
    lines.until("sequence");
    drop(server);
    let result: Value = serde_json::from_str(&lines.until(r#""type":"result""#)).unwrap();
    assert_eq!(result["ok"], false);
    stream.wait().failed(1, &["tried", "cause", "next"]);
}

/// Linux alone has a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_output() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let server = Server::start();
    let ended = server.client("unary multiply 6 7").stdout(full).run();
    ended.failed(1, &["the output cannot be written"]);
}

/// It takes minutes to read.
#[test]
fn a_deadline_does_not_wait_for_a_checksum() {
    let server = Server::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 40).unwrap();
    let upload = server.client("--deadline 300ms client-streaming upload").arg(file.path());
    upload.run().failed(1, &["DEADLINE_EXCEEDED"]);
}

//! Slow paths: what takes long is not lost, and what is lost is found soon.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use grpc_wire::{Mode, limits};
use serde_json::{Value, json};
use shared_proto::bytestream::{QueryWriteStatusRequest, byte_stream_client::ByteStreamClient};
use stack::{Limits, Settings};
use tempfile::TempDir;
use test_support::{BlockingServer as Server, Killable, Program, Running, Slow, eventually, run, until};

use crate::{client, server};

const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(1);

/// In bytes a second: 1 Mbit/s.
const RATE: u32 = 125_000;

/// It takes three seconds, and a PING behind it longer than the timeout.
const SIZE: usize = 3 * RATE as usize;

/// A server and a slow path to it. Both sides look for dead peers soon.
fn slow() -> (Server, Slow) {
    let limits = Limits { keepalive_interval: INTERVAL, keepalive_timeout: TIMEOUT, ..Limits::default() };
    let server = Server::with(Settings { limits, ..Settings::default() }.into());
    let slow = Slow::rate(server.address, RATE);
    (server, slow)
}

fn program(url: &str, arguments: &str) -> Program {
    let keepalive = format!("--keepalive-interval {INTERVAL:?} --keepalive-timeout {TIMEOUT:?}");
    client(&format!("--server {url} {keepalive} --output json {arguments}"))
}

/// A directory with a file to upload.
fn file(size: usize) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, vec![7; size]).unwrap();
    let upload = format!("client-streaming upload --chunk 16KiB {}", path.display());
    (directory, upload)
}

#[track_caller]
fn not_resumed(result: &Value) {
    assert_eq!((&result["ok"], &result["value"]["resumed_from"]), (&json!(true), &json!([])), "{result}");
}

#[test]
fn an_upload_that_takes_long_is_not_lost() {
    let (_server, slow) = slow();
    let (_directory, upload) = file(SIZE);
    not_resumed(&program(&slow.url, &upload).run().ok().result());
}

#[test]
fn a_download_that_takes_long_is_not_lost() {
    let (server, slow) = slow();
    let (directory, upload) = file(SIZE);
    program(&server.url, &upload).run().ok();
    let copy = directory.path().join("copy");
    let download = format!("server-streaming download file -o {}", copy.display());
    not_resumed(&program(&slow.url, &download).run().ok().result());
    assert_eq!(fs::read(copy).unwrap(), vec![7; SIZE]);
}

/// Two seconds are room for a machine on which all the other tests run as well.
const SOON: Duration = Duration::from_millis(500 + 1000 + 250 + 2000);

/// How long both sides take to notice that the path is dead.
#[track_caller]
fn noticed(server: &Server, slow: &Slow, mode: Mode, call: &str, sign: &str) {
    let open = || server.status(mode).calls_open;
    let mut running = program(&slow.url, call).spawn();
    let lines = running.lines();
    lines.until(sign);
    eventually(|| open() > 0, "no call is open at the server");
    slow.die();
    let begun = Instant::now();
    thread::scope(|scope| {
        let by_client = scope.spawn(move || {
            lines.until(r#""type":"reconnect""#);
            begun.elapsed()
        });
        eventually(|| open() == 0, "the server holds a call that is lost");
        let (by_server, by_client) = (begun.elapsed(), by_client.join().unwrap());
        assert!(by_client < SOON && by_server < SOON, "the client: {by_client:?}, the server: {by_server:?}");
    });
    running.child.kill().unwrap();
}

#[test]
fn a_path_that_dies_during_an_upload_is_found_soon() {
    let (server, slow) = slow();
    let (_directory, upload) = file(SIZE);
    noticed(&server, &slow, Mode::ClientStreaming, &upload, r#""number":8,"#);
}

#[test]
fn a_path_that_dies_during_a_download_is_found_soon() {
    let (server, slow) = slow();
    // More than a server may send before it is read.
    let (directory, upload) = file(2 * limits::STREAM_WINDOW as usize);
    program(&server.url, &upload).run().ok();
    let copy = directory.path().join("copy");
    let download = format!("server-streaming download file -o {}", copy.display());
    noticed(&server, &slow, Mode::ServerStreaming, &download, r#""http_status""#);
}

#[test]
fn a_path_that_dies_while_nothing_passes_is_found_soon() {
    let (server, slow) = slow();
    let chat = "bidi-streaming chat --room r --name ana";
    noticed(&server, &slow, Mode::BidiStreaming, chat, r#""joined""#);
}

#[test]
fn on_a_path_of_1_mbit_all_go_on_after_a_kill() {
    let state = tempfile::tempdir().unwrap();
    let server = Killable::start(server("all").env("FOURMODES_DATA_DIR", state.path()));
    let slow = Slow::rate(server.url.trim_start_matches("http://").parse().unwrap(), RATE);
    let (_directory, upload) = file(SIZE);
    let calls = [
        "server-streaming quotes --count 60 --interval 50ms",
        "bidi-streaming chat --room r --name ana --after-sequence 0",
        &upload,
    ];
    let mut running =
        calls.map(|call| client(&format!("--server {} --output json {call}", slow.url)).spawn());
    let lines = running.each_mut().map(Running::lines);
    running[1].say("before");
    lines[0].until(r#""sequence""#);
    lines[1].until(r#""accepted""#);
    let first: Value = serde_json::from_str(&lines[2].until(r#""resource_name""#)).unwrap();
    let name = first["value"]["resource_name"].as_str().unwrap();
    run(async {
        let mut client = ByteStreamClient::connect(server.url.clone()).await.unwrap();
        let query = QueryWriteStatusRequest { resource_name: name.to_owned() };
        until(async || {
            let status = client.query_write_status(query.clone()).await;
            status.is_ok_and(|status| status.into_inner().committed_size > 0)
        })
        .await;
    });
    server.restart();
    lines.iter().for_each(|lines| drop(lines.until(r#""type":"reconnect""#)));
    running[1].say("after");
    running[1].half_close();
    let [quotes, chat, upload] = lines.map(|lines| {
        let result: Value = serde_json::from_str(&lines.until(r#""type":"result""#)).unwrap();
        assert_eq!(result["ok"], true, "{result}");
        result["value"].clone()
    });
    assert_eq!(quotes["count"], 60, "{quotes}");
    assert_eq!((&chat["posted"], &chat["unaccepted"]), (&json!(2), &json!(0)), "{chat}");
    for value in [quotes, chat] {
        assert_eq!((&value["gaps"], &value["duplicates"]), (&json!(0), &json!(0)), "{value}");
    }
    assert_ne!(upload["resumed_from"], json!([]), "{upload}");
}

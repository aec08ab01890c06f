//! A network that swallows everything, or all that goes one way: both sides learn
//! of it by asking whether the other one is there.

use std::{
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use grpc_wire::Mode;
use shared_proto::fourmodes::v1::{GetStatusRequest, unary_service_client::UnaryServiceClient};
use stack::{Limits, Settings};
use test_support::{BlockingServer as Server, LONG, Proxy, Running, Trouble, Way, eventually};
use tonic::transport::Endpoint;

use crate::client;

const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(1);

/// What is promised, and a second for a machine on which all the other tests run
/// at the same time: the one that is in the promise is for both processes to
/// have their turns.
const SOON: Duration =
    INTERVAL.saturating_add(TIMEOUT).saturating_add(Duration::from_secs(1)).saturating_add(ROOM);
const ROOM: Duration = Duration::from_secs(1);

/// A stream that is open.
struct Stream {
    arguments: &'static str,
    mode: Mode,
    /// What shows that it is.
    sign: &'static str,
    /// Whether the client goes on sending.
    types: bool,
}

const CHAT: &str = "bidi-streaming chat --room r --name ana";

const IDLE: Stream = Stream { arguments: CHAT, mode: Mode::BidiStreaming, sign: r#""joined""#, types: false };
const CLIENT_SENDS: Stream = Stream { types: true, sign: r#""accepted""#, ..IDLE };
const SERVER_SENDS: Stream = Stream {
    arguments: "server-streaming quotes --count 0 --interval 1ms",
    mode: Mode::ServerStreaming,
    sign: r#""sequence""#,
    types: false,
};

#[test]
fn both_sides_notice_when_nothing_passes_either_way() {
    each_stream_is_lost(Way::Both);
}

#[test]
fn both_sides_notice_when_nothing_comes_from_the_client() {
    each_stream_is_lost(Way::ToServer);
}

#[test]
fn both_sides_notice_when_nothing_comes_from_the_server() {
    each_stream_is_lost(Way::ToClient);
}

fn each_stream_is_lost(way: Way) {
    thread::scope(|scope| {
        for (what, stream) in
            [("idle", IDLE), ("the client sends", CLIENT_SENDS), ("the server sends", SERVER_SENDS)]
        {
            scope.spawn(move || {
                let (client, server) = noticed(&stream, way);
                assert!(
                    client < SOON && server < SOON,
                    "{what}: the client noticed after {client:?}, the server after {server:?}"
                );
            });
        }
    });
}

/// How long it takes the client and the server.
fn noticed(stream: &Stream, way: Way) -> (Duration, Duration) {
    let limits = Limits { keepalive_interval: INTERVAL, keepalive_timeout: TIMEOUT, ..Limits::default() };
    let server = Server::with(Settings { limits, ..Settings::default() }.into());
    let proxy = Proxy::start(server.url.trim_start_matches("http://").parse().unwrap());
    let keepalive = format!("--keepalive-interval {INTERVAL:?} --keepalive-timeout {TIMEOUT:?}");
    let client = client(&format!("{} {keepalive} --output json", stream.arguments));
    let mut client = client.env("FOURMODES_SERVER", format!("http://{}", proxy.address)).spawn();
    let lines = client.lines();
    if stream.types {
        type_without_end(&mut client);
    }
    lines.until(stream.sign);
    assert_eq!(calls_ended(&server, stream.mode), 0);

    proxy.set(Trouble::Swallow(way));
    let begun = Instant::now();
    thread::scope(|scope| {
        let by_client = scope.spawn(move || {
            lines.until(r#""type":"reconnect""#);
            begun.elapsed()
        });
        eventually(|| calls_ended(&server, stream.mode) > 0, "the server holds a call that is lost");
        let by_server = begun.elapsed();
        (by_client.join().unwrap(), by_server)
    })
}

/// Until the client is gone.
fn type_without_end(client: &mut Running) {
    let mut stdin = client.child.stdin.take().unwrap();
    thread::spawn(move || {
        while writeln!(stdin, "still here").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
}

/// By a connection that nothing is between.
fn calls_ended(server: &Server, mode: Mode) -> u64 {
    let endpoint = Endpoint::from_shared(server.url.clone()).unwrap().timeout(LONG);
    let status = server.runtime.block_on(async {
        let mut client = UnaryServiceClient::connect(endpoint).await.unwrap();
        client.get_status(GetStatusRequest {}).await.unwrap().into_inner()
    });
    let of_mode = status.modes[mode as usize];
    of_mode.calls_started - of_mode.calls_open
}

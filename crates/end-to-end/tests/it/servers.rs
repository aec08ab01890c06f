//! Several servers, some of which are dead or about to be, and servers that are
//! not there yet.

use serde_json::Value;
use stack::Settings;
use std::time::Duration;
use test_support::{BlockingServer as Server, Certs, Proxy, Reserved, Slow, deaf_address, listener};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::transport::{self, server::TcpIncoming};
use tonic_health::ServingStatus;
use uuid::Uuid;

use crate::{Called as _, client};

fn of_type(lines: &[Value], kind: &str) -> Vec<Value> {
    lines.iter().filter(|line| line["type"] == kind).cloned().collect()
}

/// A server that says of its health that it does not serve, and nothing else.
fn drained() -> (Runtime, String) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    runtime.spawn(async move {
        let (reporter, service) = tonic_health::server::health_reporter();
        reporter.set_service_status("", ServingStatus::NotServing).await;
        let router = transport::Server::builder().add_service(service);
        router.serve_with_incoming(TcpIncoming::from(listener)).await
    });
    (runtime, url)
}

#[test]
fn a_dead_server_among_three_costs_no_call() {
    let (one, two) = (Server::start(), Server::start());
    let (dead, _sockets) = deaf_address();
    let dead = format!("http://{dead}");
    let mut answered = std::collections::HashSet::new();
    let mut met = 0;
    for run in 0..20 {
        let given = match run % 2 {
            0 => format!("--server {},{dead},{}", one.url, two.url),
            _ => format!("--server {} --server {dead} --server {}", one.url, two.url),
        };
        let ended = client(&format!("unary multiply 6 7 --output json {given}")).run().ok();
        let lines = ended.json();
        assert_eq!(ended.result()["value"]["product"], 42);
        let connected = of_type(&lines, "connected");
        assert_eq!(connected.len(), 1, "{lines:?}");
        let request = lines.iter().find(|line| line["path"].is_string()).unwrap();
        assert_eq!(request["server"], connected[0]["server"]);
        answered.insert(connected[0]["server"].as_str().unwrap().to_owned());
        for ejected in of_type(&lines, "ejected") {
            assert_eq!((&ejected["server"], &ejected["for_ms"]), (&format!("{dead}/").into(), &1000.into()));
            met += 1;
        }
    }
    // A run begins with any of the three: that all twenty begin with the same
    // one has a chance of one to a billion.
    assert!(answered.len() == 2 && met < 20, "{answered:?}, {met} of 20 met the dead one");
}

#[test]
fn a_server_that_says_that_it_does_not_serve_is_passed_over() {
    let server = Server::start();
    let (_runtime, drained) = drained();
    let mut met = 0;
    while met < 3 {
        let ended = server
            .client("unary multiply 6 7 --output json")
            .args("--server")
            .arg(format!("{drained},{}", server.url));
        let lines = ended.run().ok().json();
        for ejected in of_type(&lines, "ejected") {
            assert_eq!(ejected["server"], drained.as_str());
            assert!(ejected["reason"].as_str().unwrap().contains("NOT_SERVING"), "{ejected}");
            met += 1;
        }
        // What asks for it is not shown.
        assert!(!lines.iter().any(|line| line["path"].as_str().is_some_and(|path| path.contains("health"))));
    }
    // Alone it is asked: a call says more than a word about it.
    client(&format!("unary multiply 6 7 --server {drained}")).run().failed(1, &["UNIMPLEMENTED"]);
    let (_runtime, another) = self::drained();
    client(&format!("unary multiply 6 7 --server {drained},{another}"))
        .run()
        .failed(1, &["UNAVAILABLE", "NOT_SERVING", &format!("{drained}, {another}")]);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let server = Server::start();
    let (_listener, mute) = listener();
    let mut met = 0;
    while met == 0 {
        let ended = client("unary multiply 6 7 --deadline 1min --output json");
        let lines = ended.args("--server").arg(format!("{mute},{}", server.url)).run().ok().json();
        for ejected in of_type(&lines, "ejected") {
            assert!(ejected["reason"].as_str().unwrap().contains("not ready after 1s"), "{ejected}");
            met += 1;
        }
    }
}

#[test]
fn when_all_servers_are_dead_it_is_said_of_which() {
    let (one, _sockets_of_one) = deaf_address();
    let (two, _sockets_of_two) = deaf_address();
    client(&format!("unary status --server {one},{two}"))
        .run()
        .failed(1, &["UNAVAILABLE", "refused", &one.to_string(), &two.to_string()]);
}

#[test]
fn a_stream_that_has_begun_comes_back_to_its_server() {
    let servers = [Server::start(), Server::start(), Server::start()];
    let proxies = servers
        .each_ref()
        .map(|server| Proxy::start(server.url.trim_start_matches("http://").parse().unwrap()));
    let addresses = proxies.each_ref().map(|proxy| proxy.address.to_string()).join(",");
    let quotes = "server-streaming quotes --count 0 --interval 1ms --output json";
    let mut stream = client(quotes).args("--server").arg(addresses).spawn();
    let lines = stream.lines();
    let connected = lines.until(r#""type":"connected""#);
    let server = |line: &str| serde_json::from_str::<Value>(line).unwrap()["server"].clone();
    for _ in 0..4 {
        lines.until(r#""sequence""#);
        proxies.iter().for_each(Proxy::cut);
        assert_eq!(server(&lines.until(r#""type":"connected""#)), server(&connected));
    }
    lines.until(r#""sequence""#);
    stream.child.kill().unwrap();
}

#[test]
fn who_waits_for_a_server_gets_its_answer_when_it_is_there() {
    for call in ["unary multiply 6 7 --deadline 1min", "server-streaming quotes --count 1"] {
        let reserved = Reserved::new();
        let mut waiting =
            client(&format!("{call} --wait-for-ready --output json --server {}", reserved.address)).spawn();
        let lines = waiting.lines();
        assert!(lines.until(r#""type":"reconnect","#).contains("refused"));
        lines.until(r#""attempt":3,"#);
        let _server = reserved.start();
        lines.until(r#""type":"connected""#);
        assert!(lines.until(r#""type":"result""#).contains(r#""ok":true"#));
        waiting.wait().ok();
    }
}

#[test]
fn a_proxy_in_the_environment_is_said_to_be_ignored() {
    let reserved = Reserved::new();
    let call = client(&format!("unary status --server {}", reserved.address));
    call.env("HTTPS_PROXY", "http://proxy:3128").run().failed(1, &["refused", "HTTPS_PROXY", "ignored"]);
}

#[test]
fn who_waits_does_so_until_the_deadline_or_for_as_long_as_a_stream_may_take_to_come_back() {
    let reserved = Reserved::new();
    let waits = format!("--wait-for-ready --server {}", reserved.address);
    client(&format!("unary status --deadline 300ms {waits}"))
        .run()
        .failed(1, &["DEADLINE_EXCEEDED", "300ms", "refused"]);
    client(&format!("server-streaming quotes --reconnect 300ms {waits}")).run().failed(1, &["refused"]);
    // A name that cannot be resolved may be there later, too.
    let call = "unary status --deadline 1min --wait-for-ready --output json";
    let mut waiting = client(call).args("--server http://no-such-host.invalid:50051").spawn();
    waiting.lines().until(r#""type":"reconnect","#);
}

#[test]
fn what_a_server_keeps_is_asked_of_that_server() {
    let servers = [Server::start(), Server::start(), Server::start()];
    let urls = servers.each_ref().map(|server| server.url.clone()).join(",");
    let ended = client("tour --output json --server").arg(urls).run().ok();
    let lines = ended.json();
    let asked = |method: &str| {
        let calls =
            lines.iter().filter(|line| line["path"].as_str().is_some_and(|path| path.ends_with(method)));
        calls.map(|call| call["server"].as_str().unwrap()).collect::<std::collections::HashSet<_>>()
    };
    assert_eq!(asked("/SubmitTask").len(), 1);
    assert_eq!(asked("/SubmitTask"), asked("/WatchTask"));
    assert!(asked("/Multiply").len() > 1, "unary calls have their turns");
}

/// Submits a task that takes long, and returns its id.
fn submitted(servers: &str, request_id: Option<Uuid>) -> String {
    let submit = "unary submit primes --below 100000000000 --output json --server";
    let id = request_id.map(|id| format!("--request-id {id}")).unwrap_or_default();
    let value = client(submit).arg(servers).args(&id).run().ok().result()["value"].clone();
    value["id"].as_str().unwrap().to_owned()
}

#[test]
fn what_one_of_the_servers_has_is_found_there() {
    let servers = [Server::start(), Server::start(), Server::start()];
    let urls = servers.each_ref().map(|server| server.url.clone()).join(",");
    for server in &servers {
        let id = submitted(&server.url, None);
        for _ in 0..2 {
            client("unary task --server").arg(&urls).arg(&id).run().ok();
            let watch = client("server-streaming task --output json --server").arg(&urls).arg(&id);
            let mut watching = watch.spawn();
            watching.lines().until(r#""from":"server","number":1"#);
            watching.child.kill().unwrap();
        }
        client("unary cancel --server").arg(&urls).arg(&id).run().ok();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    servers[1].client("client-streaming upload --name file").arg(file.path()).run().ok();
    let directory = tempfile::tempdir().unwrap();
    for name in ["one", "two", "three"] {
        let download = client("server-streaming download file -o").arg(directory.path().join(name));
        download.arg("--server").arg(&urls).run().ok();
    }
    let unknown = Uuid::new_v4().to_string();
    let cancel = client("unary cancel --server").arg(&urls).arg(&unknown);
    cancel.run().failed(1, &["NOT_FOUND", &unknown]);
}

#[test]
fn that_no_server_has_a_task_is_said_only_when_each_was_asked() {
    let (one, other) = (Server::start(), Server::start());
    let proxy = Proxy::start(one.address);
    let id = submitted(&one.url, None);
    proxy.set_target(None);
    let (away, _sockets) = deaf_address();
    for call in ["unary task", "unary cancel"] {
        let call = client(&format!("{call} --reconnect 0s --deadline 1min --server {away},{}", other.url));
        call.arg(&id).run().failed(1, &["UNAVAILABLE"]);
    }
    let servers = format!("{},{}", proxy.address, other.url);
    let mut waiting =
        client("unary cancel --deadline 1min --output json --server").arg(&servers).arg(&id).spawn();
    waiting.lines().until(r#""code":"NOT_FOUND""#);
    proxy.set_target(one.address);
    waiting.wait().ok();
}

#[test]
fn a_request_id_makes_one_task_whichever_of_the_servers_comes_first() {
    let servers = [Server::start(), Server::start(), Server::start()];
    let [a, b, c] = servers.each_ref().map(|server| server.url.clone());
    for _ in 0..5 {
        let id = Some(Uuid::new_v4());
        let first = submitted(&format!("{a},{b},{c}"), id);
        assert_eq!(submitted(&format!("{c},{a},{b}"), id), first);
    }
    // A new one is made for a server that is there.
    let (dead, _sockets) = deaf_address();
    for _ in 0..5 {
        submitted(&format!("{dead},{a},{a}"), None);
    }
}

#[test]
fn servers_that_are_far_away_are_not_taken_for_dead() {
    const ROUND_TRIP: Duration = Duration::from_millis(600);
    let certs = Certs::new();
    for tls in [None, Some(certs.server())] {
        let servers =
            [(); 3].map(|()| Server::with(Settings { tls: tls.clone(), ..Settings::default() }.into()));
        let slow = servers.each_ref().map(|server| Slow::round_trip(server.address, ROUND_TRIP));
        let urls = slow.each_ref().map(|slow| match tls {
            Some(_) => slow.url.replace("http", "https"),
            None => slow.url.clone(),
        });
        let mut call =
            client("unary multiply 6 7 --deadline 1min --output json --server").arg(urls.join(","));
        if tls.is_some() {
            call = call.arg("--ca").arg(certs.path("ca.pem"));
        }
        let lines = call.run().ok().json();
        assert!(of_type(&lines, "ejected").is_empty(), "{lines:?}");
    }
}

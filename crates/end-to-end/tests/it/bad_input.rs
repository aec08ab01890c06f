//! Servers that are none, and usage that makes no sense.

use std::{io::Write as _, thread};

use test_support::{BlockingServer, deaf_address, listener};

use crate::{Called as _, client};

#[test]
fn a_refused_connection_names_the_command_that_starts_a_server() {
    let (address, _sockets) = deaf_address();
    let ended = client(&format!("--server {address} unary status --output json")).run();
    let ended = ended.failed(1, &["UNAVAILABLE", "refused", "server all", &address.to_string()]);
    assert_eq!(ended.result()["error"]["code"], "UNAVAILABLE");
}

#[test]
fn a_host_that_does_not_exist_is_named() {
    client("--server http://no-such-host.invalid:50051 --deadline 1m unary status")
        .run()
        .failed(1, &["no-such-host.invalid", "cannot be resolved", "spelling of the address"]);
}

#[test]
fn an_http_1_server_is_no_grpc_server() {
    let (listener, address) = listener();
    thread::spawn(move || {
        for peer in listener.incoming() {
            let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = peer.and_then(|mut peer| peer.write_all(answer.as_bytes()));
        }
    });
    for _ in 0..10 {
        client(&format!("--server {address} unary multiply 6 7"))
            .run()
            .failed(1, &["does not speak HTTP/2", &address.to_string()]);
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up_at_the_deadline() {
    let (listener, address) = listener();
    let held = thread::spawn(move || listener.incoming().next().unwrap().unwrap());
    client(&format!("--server {address} --deadline 300ms unary multiply 6 7"))
        .run()
        .failed(1, &["DEADLINE_EXCEEDED", "300ms", "not a working gRPC server"]);
    held.join().unwrap();
}

#[test]
fn headers_that_are_too_long_are_named_whoever_refuses_them() {
    let server = BlockingServer::start();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // By the server's limit, by what its HTTP/2 takes, and by what ends a
    // connection: letters take five bits of eight on the way.
    for (add, code) in [(17_000, "LIMIT_REACHED"), (150_000, "431"), (2_000_000, "attacker")] {
        file.write_all("a".repeat(add).as_bytes()).unwrap();
        let token = file.path().display();
        client(&format!("--server {} --token-file {token} --deadline 60s unary multiply 6 7", server.url))
            .run()
            .failed(1, &["headers", code]);
    }
}

/// A queue of connections that is full: what a firewall does that swallows them.
#[cfg(target_os = "linux")]
#[test]
fn a_host_that_does_not_answer_is_not_taken_for_a_server_that_speaks_something_else() {
    let (listener, address) = listener();
    let mut waiting = Vec::new();
    while let Ok(peer) = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200))
    {
        waiting.push(peer);
    }
    client(&format!("--server {address} --deadline 300ms unary status"))
        .run()
        .failed(1, &["DEADLINE_EXCEEDED", "firewall"]);
    drop(listener);
}

#[test]
fn a_deadline_that_passes_before_the_call_is_a_deadline() {
    let server = test_support::BlockingServer::start();
    for deadline in ["1ms", "2ms", "3ms"] {
        let ended = server.client(&format!("unary status --output json --deadline {deadline}")).run();
        // On a quick machine the call may even succeed.
        if ended.code != Some(0) {
            let result = ended.failed(1, &["DEADLINE_EXCEEDED", "--deadline"]).result();
            assert_eq!(result["error"]["code"], "DEADLINE_EXCEEDED", "{result}");
        }
    }
}

#[test]
fn usage_that_makes_no_sense_is_refused_with_the_value_and_the_reason() {
    for (arguments, words) in [
        ("", &["Usage"][..]),
        ("trinary", &["trinary"]),
        ("unary multiply 6", &["<B>"]),
        ("unary multiply 6 seven", &["seven", "invalid digit"]),
        ("unary multiply 9223372036854775808 1", &["9223372036854775808", "too large"]),
        ("unary status --deadline 0s", &["0s", "1ms"]),
        ("unary status --deadline 0", &["'0'", "1ms"]),
        ("unary status --deadline 5", &["'5'", "unit"]),
        ("unary status --deadline 2y", &["2y", "year"]),
        ("unary status --deadline 999us", &["999us", "1ms"]),
        ("unary status --deadline -1s", &["-1s"]),
        ("server-streaming quotes --interval -1s", &["-1s"]),
        ("unary status --server http://127.0.0.1:99999", &["99999", "65535"]),
        ("unary status --server 127.0.0.1:1,", &["--server :", "host:port"]),
        ("unary status --server 127.0.0.1:1,ftp://x", &["ftp://x", "scheme"]),
        ("unary status --max-attempts 0", &["0", "1..=5"]),
        ("unary status --max-attempts 6", &["6", "1..=5"]),
        ("unary status --max-attempts -1", &["-1", "1..=5"]),
        ("unary status --output xml", &["xml", "text", "json"]),
        ("unary status --server ftp://127.0.0.1:1", &["ftp://127.0.0.1:1", "https://"]),
        ("unary status --ca ca.pem", &["--ca", "https://"]),
        ("unary status --server https://127.0.0.1:1 --cert client.pem", &["--cert", "--key", "both"]),
        ("unary status --server http://127.0.0.1:1/path", &["/path"]),
        ("server-streaming quotes --count -1", &["-1"]),
        ("server-streaming quotes --interval soon", &["soon", "500ms"]),
        ("client-streaming readings", &["<FILE>"]),
        ("bidi-streaming chat --room r", &["--name"]),
    ] {
        let ended = client(arguments).run().failed(2, words);
        assert_eq!(ended.stdout, "", "{arguments}");
    }
}

#[test]
fn a_diagram_that_cannot_be_written_is_an_error_before_the_call() {
    let ended = client("unary status --diagram /nonexistent/d.mmd").run();
    ended.failed(1, &["/nonexistent/d.mmd", "No such file"]);
}

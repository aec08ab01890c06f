//! Go's net/rpc beside gRPC, or in its place.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use shared_proto::fourmodes::v1::MultiplyRequest;
use test_support::{LONG, ServerProgram, eventually, run, unary};

use crate::server::binary;

/// What the log says after these words.
fn logged_address(server: &ServerProgram, words: &str) -> SocketAddr {
    let mut address = None;
    eventually(
        || {
            address = server.log().lines().find_map(|line| {
                let (_, rest) = line.split_once(words)?;
                rest.split([':', '/']).take(2).collect::<Vec<_>>().join(":").parse().ok()
            });
            address.is_some()
        },
        "the log has no address",
    );
    address.unwrap()
}

/// A client that speaks JSON, as any language can.
struct Json(BufReader<TcpStream>);

impl Json {
    fn to(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Self(BufReader::new(socket))
    }

    fn call(&mut self, method: &str, arguments: &str, id: u32) -> String {
        writeln!(self.0.get_mut(), r#"{{"method":"{method}","params":[{arguments}],"id":{id}}}"#).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }
}

const MULTIPLY: &str = "MathService.Multiply";

#[test]
fn net_rpc_alone_has_its_calls_in_the_log_and_in_the_metrics() {
    let server = binary(&["--metrics", "127.0.0.1:0", "net-rpc"]).serve();
    assert_eq!(server.url, format!("tcp://{}", server.address));
    let mut client = Json::to(server.address);
    let answer = client.call(MULTIPLY, r#"{"A":10,"B":20}"#, 0);
    assert_eq!(answer, "{\"id\":0,\"result\":200,\"error\":null}\n");
    let large = r#"{"A":9223372036854775807,"B":2}"#;
    assert_eq!(
        client.call(MULTIPLY, large, 1),
        "{\"id\":1,\"result\":null,\"error\":\"9223372036854775807 × 2 does not fit into a signed 64-bit integer\"}\n"
    );
    assert_eq!(
        client.call("Nope\\u001b[2J.Multiply", "{}", 2),
        "{\"id\":2,\"result\":null,\"error\":\"rpc: can't find service Nope\\u001b[2J.Multiply\"}\n"
    );
    eventually(|| server.logged(&["net/rpc call ended", MULTIPLY, "json", "does not fit"]), "no line");
    assert!(!server.log().contains('\u{1b}'), "{}", server.log());
    let mut scraped = TcpStream::connect(logged_address(&server, "metrics at http://")).unwrap();
    scraped.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    scraped.read_to_string(&mut page).unwrap();
    for line in [
        r#"fourmodes_net_rpc_handled_total{transport="json",method="MathService.Multiply",result="ok"} 1"#,
        r#"fourmodes_net_rpc_handled_total{transport="json",method="MathService.Multiply",result="error"} 1"#,
        r#"fourmodes_net_rpc_handled_total{transport="json",method="unknown",result="error"} 1"#,
        "fourmodes_net_rpc_connections 1",
        "fourmodes_net_rpc_handling_seconds_count 3",
    ] {
        assert!(page.contains(line), "no {line} in {page}");
    }
}

#[test]
fn all_modes_may_have_net_rpc_beside_them() {
    let server = binary(&["all", "--net-rpc", "127.0.0.1:0"]).serve();
    let answer = Json::to(logged_address(&server, "net/rpc at ")).call(MULTIPLY, r#"{"A":6,"B":7}"#, 0);
    assert_eq!(answer, "{\"id\":0,\"result\":42,\"error\":null}\n");
    run(async {
        let response = unary(server.address).multiply(MultiplyRequest { a: 6, b: 7 }).await.unwrap();
        assert_eq!(response.into_inner().product, 42);
    });
}

#[test]
fn net_rpc_has_the_limits_of_unary_calls() {
    let server = binary(&["--max-unary-message", "100", "net-rpc"]).serve();
    let mut client = Json::to(server.address);
    let long = format!(r#"{{"A":6,"B":7,"C":"{}"}}"#, "x".repeat(100));
    assert_eq!(client.call(MULTIPLY, &long, 0), "");
    eventually(|| server.logged(&["connection is closed", "over the limit of 100 bytes"]), "no line");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_net_rpc_with_0_though_a_client_is_connected() {
    for signal in [test_support::Signal::INT, test_support::Signal::TERM] {
        let server = binary(&["net-rpc", "--grace", "10min"]).serve();
        let mut client = Json::to(server.address);
        client.call(MULTIPLY, r#"{"A":6,"B":7}"#, 0);
        server.signal(signal);
        let mut rest = String::new();
        client.0.read_to_string(&mut rest).unwrap();
        assert_eq!((rest, server.ended().0), (String::new(), Some(0)), "{signal:?}");
    }
}

#[test]
fn options_that_net_rpc_cannot_keep_are_refused() {
    let ended = binary(&["net-rpc", "--tls-cert", "a.pem", "--tls-key", "a.key"]).run();
    ended.failed(2, &["neither TLS nor tokens", "--tls-cert"]);
}

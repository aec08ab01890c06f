//! The others by themselves: `comparison serve`, from outside.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use shared_proto::fourmodes::v1::{MeasureUnaryRequest, measure_service_client::MeasureServiceClient};

struct Served {
    process: Child,
    address: SocketAddr,
}

impl Served {
    fn start(contestant: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_comparison"))
            .args(["serve", contestant])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
        Self { process, address }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A client of JSON-RPC that sends what it is told.
struct Lines(BufReader<TcpStream>);

impl Lines {
    fn to(served: &Served) -> Self {
        Self(BufReader::new(TcpStream::connect(served.address).unwrap()))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    fn answer_to(&mut self, request: &str) -> String {
        self.send(format!("{request}\n").as_bytes());
        self.line()
    }
}

#[test]
fn json_rpc_answers_what_go_sends_as_go_expects() {
    let served = Served::start("json-rpc");
    let mut client = Lines::to(&served);
    assert_eq!(
        client.answer_to(r#"{"method":"MathService.Multiply","params":[{"A":10,"B":20}],"id":0}"#),
        "{\"id\":0,\"result\":200,\"error\":null}\n"
    );
    assert_eq!(
        client.answer_to(r#"{"method":"MathService.Divide","params":[{}],"id":1}"#),
        "{\"id\":1,\"result\":null,\"error\":\"rpc: can't find method MathService.Divide\"}\n"
    );
    // The connection goes on.
    assert_eq!(
        client.answer_to(r#"{"method":"MathService.Multiply","params":[{"A":-6,"B":7}],"id":2}"#),
        "{\"id\":2,\"result\":-42,\"error\":null}\n"
    );
}

#[test]
fn json_rpc_gives_any_id_back_as_it_was() {
    let served = Served::start("json-rpc");
    let mut client = Lines::to(&served);
    for id in [r#""a\u0062c""#, "12345678901234567890123", "1.50", "[1, {\"x\":null}]", "null"] {
        let request = format!(r#"{{"id":{id},"method":"MathService.Multiply","params":[{{"A":6,"B":7}}]}}"#);
        assert_eq!(client.answer_to(&request), format!("{{\"id\":{id},\"result\":42,\"error\":null}}\n"));
    }
}

#[test]
fn json_rpc_says_what_is_wrong_with_a_request_and_goes_on() {
    let served = Served::start("json-rpc");
    let mut client = Lines::to(&served);
    for (request, error) in [
        (
            r#"{"method":"MathService.Multiply","params":[{"A":9223372036854775807,"B":2}],"id":3}"#,
            "does not fit",
        ),
        (r#"{"method":"MathService.Multiply","params":[{"A":1}],"id":3}"#, "missing field"),
        (r#"{"method":"MathService.Multiply","params":[],"id":3}"#, "invalid length"),
        (r#"{"method":"MathService.Multiply","id":3}"#, "missing params"),
        (r#"{"params":[{"A":1,"B":1}],"id":3}"#, "can't find method"),
    ] {
        let answer = client.answer_to(request);
        assert!(
            answer.starts_with(r#"{"id":3,"result":null,"error":""#) && answer.contains(error),
            "{answer}"
        );
    }
}

#[test]
fn json_rpc_goes_on_after_a_line_that_is_no_request() {
    let served = Served::start("json-rpc");
    let mut client = Lines::to(&served);
    for line in [&b"nonsense\n"[..], b"\n", b"{\"method\":5}\n", b"\xff\xfe\n", b"[]\n", b"{\"id\":1\n"] {
        client.send(line);
        let answer = client.line();
        assert!(answer.starts_with(r#"{"id":null,"result":null,"error":""#), "{answer}");
        let answer = client.answer_to(r#"{"method":"MathService.Multiply","params":[{"A":6,"B":7}],"id":9}"#);
        assert_eq!(answer, "{\"id\":9,\"result\":42,\"error\":null}\n");
    }
}

#[test]
fn json_rpc_has_many_requests_in_flight_on_each_of_many_connections() {
    let served = Served::start("json-rpc");
    let mut clients: Vec<_> = (0..4).map(|_| Lines::to(&served)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let requests = (0..100).map(|id| {
            format!("{{\"method\":\"MathService.Multiply\",\"params\":[{{\"A\":{number},\"B\":{id}}}],\"id\":{id}}}\n")
        });
        let requests = requests.collect::<String>();
        // In pieces that end where no request does.
        let (first, rest) = requests.split_at(requests.len() / 3);
        client.send(first.as_bytes());
        client.send(rest.as_bytes());
    }
    for (number, client) in clients.iter_mut().enumerate().rev() {
        for id in 0..100 {
            let answer = format!("{{\"id\":{id},\"result\":{},\"error\":null}}\n", number * id);
            assert_eq!(client.line(), answer);
        }
    }
}

#[test]
fn rest_multiplies_and_says_what_it_cannot() {
    let served = Served::start("rest");
    for (body, status, answer) in [
        (r#"{"a":6,"b":7}"#, "200 OK", r#"{"product":42}"#),
        (r#"{"a":9223372036854775807,"b":2}"#, "422 Unprocessable Entity", ""),
        ("nonsense", "400 Bad Request", ""),
    ] {
        let mut socket = TcpStream::connect(served.address).unwrap();
        let length = body.len();
        write!(
            socket,
            "POST /multiply HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut response = String::new();
        socket.read_to_string(&mut response).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{response}");
        assert!(response.ends_with(answer), "{response}");
    }
}

#[tokio::test]
async fn bare_tonic_serves_what_is_measured() {
    for contestant in ["bare-tonic", "tuned-tonic"] {
        let served = Served::start(contestant);
        let mut client = MeasureServiceClient::connect(format!("http://{}", served.address)).await.unwrap();
        let request = MeasureUnaryRequest { payload: vec![1; 10].into(), response_bytes: 20 };
        assert_eq!(client.measure_unary(request).await.unwrap().into_inner().payload.len(), 20);
    }
}

#[test]
fn an_address_that_is_taken_is_said() {
    let served = Served::start("json-rpc");
    let listen = served.address.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_comparison"))
        .args(["serve", "rest", "--listen", &listen])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on {listen}")), "{said}");
}

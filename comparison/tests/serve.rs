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

#[test]
fn the_json_of_net_rpc_is_served() {
    let served = Served::start("net-rpc-json");
    let mut client = BufReader::new(TcpStream::connect(served.address).unwrap());
    let request = r#"{"method":"MathService.Multiply","params":[{"A":10,"B":20}],"id":0}"#;
    client.get_mut().write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"id\":0,\"result\":200,\"error\":null}\n");
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
    let served = Served::start("net-rpc-gob");
    let listen = served.address.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_comparison"))
        .args(["serve", "rest", "--listen", &listen])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("cannot listen on {listen}")), "{said}");
}

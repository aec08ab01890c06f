//! gRPC-Web, byte by byte over HTTP/1.1, and what else comes by that.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use grpc_wire::Mode;
use prost::Message;
use shared_proto::fourmodes::v1::{
    EndStatus, Ending, MultiplyRequest, MultiplyResponse, Script, ServerStreamingRequest,
    ServerStreamingResponse, Step, UnaryRequest, UnaryResponse, WatchQuotesRequest, ending::Kind,
};
use stack::{Limits, Settings};
use test_support::{LONG_GRACE, Server, assert_answers, open_calls, run, until, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const MULTIPLY: &str = "/fourmodes.v1.UnaryService/Multiply";
const PROBE: &str = "/fourmodes.v1.ProbeService";
const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";

/// What came until the connection ended.
struct Answer {
    head: String,
    chunks: Vec<Vec<u8>>,
}

impl Answer {
    async fn to(address: SocketAddr, request: &[u8]) -> Self {
        let mut peer = within(TcpStream::connect(address)).await.unwrap();
        peer.write_all(request).await.unwrap();
        let mut all = Vec::new();
        within(peer.read_to_end(&mut all)).await.unwrap();
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("no head") + 4;
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        let mut rest = &all[end..];
        let mut chunks = Vec::new();
        if !head.contains("transfer-encoding: chunked") {
            chunks.push(std::mem::take(&mut rest).to_vec());
        }
        while !rest.is_empty() {
            let line = rest.windows(2).position(|two| two == b"\r\n").unwrap();
            let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            chunks.push(rest[line + 2..][..length].to_vec());
            rest = &rest[line + 2 + length + 2..];
        }
        Self { head, chunks }
    }

    async fn to_call(address: SocketAddr, path: &str, content_type: &str, more: &str, body: &[u8]) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {content_type}\r\naccept: {content_type}\r\n\
             content-length: {}\r\n{more}\r\n",
            body.len(),
        );
        Self::to(address, &[head.as_bytes(), body].concat()).await
    }

    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
        line.map(|line| line.split_once(':').unwrap().1.trim())
    }

    /// The flag and the content of each frame.
    fn frames(&self) -> Vec<(u8, Vec<u8>)> {
        let text = self.header("content-type").unwrap().contains("-text");
        let decoded = |chunk: &Vec<u8>| match text {
            true => STANDARD.decode(chunk).unwrap(),
            false => chunk.clone(),
        };
        let body: Vec<u8> = self.chunks.iter().flat_map(decoded).collect();
        let mut frames = Vec::new();
        let mut rest = body.as_slice();
        while let [flag, a, b, c, d, after @ ..] = rest {
            let (content, after) = after.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
            frames.push((*flag, content.to_vec()));
            rest = after;
        }
        frames
    }
}

fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat()
}

fn six_by_seven() -> Vec<u8> {
    framed(&MultiplyRequest { a: 6, b: 7 })
}

#[test]
fn a_unary_call_in_binary_and_in_text() {
    run(async {
        let server = Server::start().await;
        let text = STANDARD.encode(six_by_seven()).into_bytes();
        for (content_type, body) in [(BINARY, six_by_seven()), (TEXT, text)] {
            let answer = Answer::to_call(server.address, MULTIPLY, content_type, "", &body).await;
            assert_eq!(answer.status(), 200, "{}", answer.head);
            assert!(answer.header("content-type").unwrap().starts_with(content_type), "{}", answer.head);
            // One call a connection; and without leave, no other page may look.
            assert_eq!(answer.header("connection"), Some("close"));
            assert_eq!(answer.header("access-control-allow-origin"), None);
            let frames = answer.frames();
            let [(0, message), (0x80, trailers)] = frames.as_slice() else { panic!("{frames:?}") };
            assert_eq!(MultiplyResponse::decode(message.as_slice()).unwrap().product, 42);
            assert_eq!(String::from_utf8_lossy(trailers).trim(), "grpc-status:0");
        }
    });
}

#[test]
fn a_server_stream_in_binary_and_in_text() {
    run(async {
        let server = Server::start().await;
        let status = EndStatus { code: 9, message: "no".to_owned(), ..EndStatus::default() };
        let script = Script {
            steps: vec![Step { repeat: 3, payload_bytes: 1000, ..Step::default() }],
            ending: Some(Ending { kind: Some(Kind::Status(status)) }),
            ..Script::default()
        };
        let request = framed(&ServerStreamingRequest { script: Some(script), ..Default::default() });
        let text = STANDARD.encode(&request).into_bytes();
        for (content_type, body) in [(BINARY, request), (TEXT, text)] {
            let path = format!("{PROBE}/ServerStreaming");
            let answer = Answer::to_call(server.address, &path, content_type, "", &body).await;
            let mut frames = answer.frames();
            let (flag, trailers) = frames.pop().unwrap();
            let trailers = String::from_utf8(trailers).unwrap();
            assert!(
                flag == 0x80 && trailers.contains("grpc-status:9") && trailers.contains("grpc-message:no")
            );
            let messages: Vec<_> = frames
                .iter()
                .map(|(_, it)| ServerStreamingResponse::decode(it.as_slice()).unwrap())
                .collect();
            assert_eq!(
                messages.iter().map(|it| (it.number, it.payload.len())).collect::<Vec<_>>(),
                [(1, 1000), (2, 1000), (3, 1000)]
            );
        }
    });
}

#[test]
fn a_failure_says_why_and_a_probe_sees_how_it_came() {
    run(async {
        let server = Server::start().await;
        let answer = Answer::to_call(server.address, "/no.Service/Method", BINARY, "", &six_by_seven()).await;
        assert_eq!((answer.status(), answer.header("grpc-status")), (200, Some("12")));
        let path = format!("{PROBE}/Unary");
        let answer =
            Answer::to_call(server.address, &path, BINARY, "x-a: 1\r\n", &framed(&UnaryRequest::default()))
                .await;
        let response = UnaryResponse::decode(answer.frames()[0].1.as_slice()).unwrap();
        let seen = response.observation.unwrap();
        assert_eq!((seen.http_version.as_str(), seen.authority), ("HTTP/1.1", server.address.to_string()));
        assert!(seen.metadata.iter().any(|entry| entry.key == "x-a" && entry.text == "1"));
        assert!(seen.half_closed.is_some() && seen.cancelled.is_none());
    });
}

async fn preflight(server: &Server, origin: &str) -> Answer {
    let request = format!(
        "OPTIONS {MULTIPLY} HTTP/1.1\r\nhost: localhost\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: content-type,x-grpc-web,x-a\r\n\r\n"
    );
    Answer::to(server.address, request.as_bytes()).await
}

#[test]
fn only_pages_of_an_origin_that_was_named_may_call() {
    run(async {
        let origins = |origins: &[&'static str]| {
            let origins = origins.iter().map(|origin| http::HeaderValue::from_static(origin)).collect();
            Settings { grpc_web_origins: origins, ..Settings::default() }.into()
        };
        let (one, other) = ("https://one.example", "https://other.example");
        let closed = preflight(&Server::start().await, one).await;
        assert_eq!((closed.status(), closed.header("access-control-allow-origin")), (403, None));
        assert!(String::from_utf8_lossy(&closed.chunks[0]).contains("--grpc-web-origin"));

        let server = Server::with(origins(&[one, "https://two.example"])).await;
        let allowed = preflight(&server, one).await;
        assert_eq!((allowed.status(), allowed.header("access-control-allow-origin")), (200, Some(one)));
        assert_eq!(allowed.header("access-control-allow-methods"), Some("POST"));
        assert_eq!(allowed.header("access-control-allow-headers"), Some("content-type,x-grpc-web,x-a"));
        assert_eq!(preflight(&server, other).await.header("access-control-allow-origin"), None);
        let more = format!("origin: {one}\r\n");
        let called = Answer::to_call(server.address, MULTIPLY, BINARY, &more, &six_by_seven()).await;
        assert_eq!(called.header("access-control-allow-origin"), Some(one));
        let exposed = called.header("access-control-expose-headers").unwrap();
        for header in ["*", "grpc-status", "grpc-message", "grpc-status-details-bin"] {
            assert!(exposed.split(',').any(|one| one == header), "{exposed}");
        }

        let everybody = preflight(&Server::with(origins(&["*"])).await, other).await;
        assert_eq!(everybody.header("access-control-allow-origin"), Some("*"));
    });
}

#[test]
fn what_is_no_grpc_web_is_told_what_the_server_speaks() {
    run(async {
        let server = Server::start().await;
        let get = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".as_slice();
        let json =
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        for (request, status) in [(get, 405), (json, 415)] {
            let answer = Answer::to(server.address, request).await;
            assert_eq!(answer.status(), status, "{}", answer.head);
            assert!(String::from_utf8_lossy(&answer.chunks[0]).contains("gRPC server"));
            assert_eq!(answer.header("connection"), Some("close"));
        }
        // Such as a proxy that speaks HTTP/1.1 to what is behind it: its client
        // is told so.
        let answer = Answer::to_call(server.address, MULTIPLY, "application/grpc", "", &six_by_seven()).await;
        assert_eq!((answer.status(), answer.header("grpc-status")), (200, Some("13")), "{}", answer.head);
        assert!(answer.header("grpc-message").unwrap().contains("HTTP/1.1"), "{}", answer.head);
        assert_answers(server.address).await;
    });
}

async fn is_hung_up_on(peer: &mut TcpStream) {
    let _ = within(peer.read_to_end(&mut Vec::new())).await;
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    run(async {
        let short = Duration::from_millis(200);
        let limits = Limits { first_byte: short, handshake: short, ..Limits::default() };
        let server = Server::with(Settings { limits, ..Settings::default() }.into()).await;
        // More than the preface of HTTP/2 has, which is not enough here.
        let stopped = format!("POST {MULTIPLY} HTTP/1.1\r\nhost: x\r\n");
        for said in ["P", "PRI * HTTP/1", "\r\n\r\n", stopped.as_str()] {
            let mut peer = TcpStream::connect(server.address).await.unwrap();
            peer.write_all(said.as_bytes()).await.unwrap();
            is_hung_up_on(&mut peer).await;
        }
        let limits = Limits { handshake: Duration::from_secs(3600), headers: 1000, ..Limits::default() };
        let server = Server::with(Settings { limits, ..Settings::default() }.into()).await;
        let mut peer = TcpStream::connect(server.address).await.unwrap();
        peer.write_all(format!("POST {MULTIPLY} HTTP/1.1\r\nx: {}", "x".repeat(9000)).as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        within(peer.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    });
}

#[test]
fn who_does_not_read_is_hung_up_on() {
    run(async {
        let limits = Limits { idle: Duration::from_millis(500), ..Limits::default() };
        let server = Server::with(Settings { limits, ..Settings::default() }.into()).await;
        let steps = vec![Step { repeat: 256, payload_bytes: 1 << 20, ..Step::default() }];
        let script = Some(Script { steps, ..Script::default() });
        let body = framed(&ServerStreamingRequest { script, ..Default::default() });
        let head = format!(
            "POST {PROBE}/ServerStreaming HTTP/1.1\r\nhost: x\r\ncontent-type: {BINARY}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut peer = TcpStream::connect(server.address).await.unwrap();
        peer.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        until(async || open_calls(Mode::ServerStreaming, server.address).await == 1).await;
        until(async || open_calls(Mode::ServerStreaming, server.address).await == 0).await;
    });
}

/// Where the connection drives the call.
#[test]
fn a_stream_over_http_1_1_ends_with_the_server() {
    run(async {
        let server = Server::with_grace(LONG_GRACE).await;
        let hourly = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
        let request =
            WatchQuotesRequest { interval: hourly, ..WatchQuotesRequest::default() }.encode_to_vec();
        let body = [&[0][..], &(request.len() as u32).to_be_bytes(), &request].concat();
        let path = "/fourmodes.v1.ServerStreamingService/WatchQuotes";
        let address = server.address;
        let answer = tokio::spawn(async move { Answer::to_call(address, path, BINARY, "", &body).await });
        until(async || open_calls(Mode::ServerStreaming, server.address).await == 1).await;
        server.begin_shutdown();
        let last = within(answer).await.unwrap().chunks.concat();
        assert!(String::from_utf8_lossy(&last).contains("grpc-status:14"), "{last:?}");
        server.ended().await;
    });
}

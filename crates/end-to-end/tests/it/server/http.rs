//! What is a call by HTTP, and who may make one: the same over HTTP/2 and
//! HTTP/1.1, with and without TLS.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use shared_proto::fourmodes::v1::{
    CountPrimes, MultiplyRequest, SubmitTaskRequest, UnaryRequest, submit_task_request::Work,
};
use stack::{Limits, Settings};
use test_support::{Certs, Server, run, unary, within};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

const MULTIPLY: &str = "/fourmodes.v1.UnaryService/Multiply";
const SUBMIT: &str = "/fourmodes.v1.UnaryService/SubmitTask";
const PROBE: &str = "/fourmodes.v1.ProbeService";
const GRPC: &str = "application/grpc";
const WEB: &str = "application/grpc-web";
const WEB_JSON: &str = "application/grpc-web+json";
/// With mutual TLS and without.
const TRANSPORTS: [(Version, bool); 4] =
    [(Version::HTTP_2, false), (Version::HTTP_2, true), (Version::HTTP_11, false), (Version::HTTP_11, true)];

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// The same server twice.
struct Servers {
    plain: Server,
    mutual: Server,
    certs: Certs,
}

impl Servers {
    async fn with(settings: Settings) -> Self {
        let certs = Certs::new();
        let mutual = Settings { tls: Some(certs.mutual()), ..settings.clone() };
        Self { plain: Server::with(settings.into()).await, mutual: Server::with(mutual.into()).await, certs }
    }

    async fn socket(&self, (version, tls): (Version, bool)) -> Box<dyn Socket> {
        if !tls {
            return Box::new(within(TcpStream::connect(self.plain.address)).await.unwrap());
        }
        let mut client = self.certs.client_config(true);
        if version != Version::HTTP_2 {
            client.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let client = TlsConnector::from(Arc::new(client));
        Box::new(Certs::handshake(self.mutual.address, client).await.unwrap())
    }

    /// Makes it on a connection of its own.
    async fn ask(&self, transport: (Version, bool), ask: &Ask<'_>) -> Answer {
        let io = TokioIo::new(self.socket(transport).await);
        let is_http2 = transport.0 == Version::HTTP_2;
        let mut request = Request::new(Full::new(Bytes::from(ask.body.clone())));
        *request.method_mut() = ask.method.clone();
        let uri = if is_http2 { format!("http://{}{}", ask.host, ask.path) } else { ask.path.to_owned() };
        *request.uri_mut() = uri.parse().unwrap();
        for (name, value) in &ask.headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        let response = if is_http2 {
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
            let (mut client, connection) = handshake.await.unwrap();
            tokio::spawn(connection);
            within(client.send_request(request)).await.unwrap()
        } else {
            request.headers_mut().insert(header::HOST, HeaderValue::from_str(ask.host).unwrap());
            let (mut client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            within(client.send_request(request)).await.unwrap()
        };
        let (head, body) = response.into_parts();
        let body = within(body.collect()).await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        Answer { status: head.status, headers: head.headers, trailers, body: body.to_bytes() }
    }
}

/// A call to `Multiply` by gRPC-Web, unless it says otherwise.
#[derive(Clone)]
struct Ask<'a> {
    method: Method,
    host: &'a str,
    path: &'a str,
    headers: Vec<(&'static str, &'a str)>,
    body: Vec<u8>,
}

impl<'a> Ask<'a> {
    fn of(headers: Vec<(&'static str, &'a str)>) -> Self {
        let body = framed(&MultiplyRequest { a: 6, b: 7 });
        Self { method: Method::POST, host: "localhost:50051", path: MULTIPLY, headers, body }
    }
}

fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat()
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    trailers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// In the headers, in the trailers, or in those of gRPC-Web, which are in the
    /// body.
    fn grpc_status(&self) -> Option<String> {
        let header = self.headers.get("grpc-status").or_else(|| self.trailers.get("grpc-status"));
        let header = header.map(|value| value.to_str().unwrap().to_owned());
        let in_body = || self.text().split_once("grpc-status:")?.1.split("\r\n").next().map(str::to_owned);
        header.or_else(in_body)
    }

    fn is_42(&self) -> bool {
        self.grpc_status().as_deref() == Some("0") && self.body.windows(2).any(|two| two == [8, 42])
    }
}

#[test]
fn only_a_post_of_grpc_is_a_call() {
    run(async {
        let servers = Servers::with(Settings::default()).await;
        for transport in TRANSPORTS {
            let ask = async |method: Method, content_type: &str| {
                let headers = vec![("content-type", content_type), ("te", "trailers")];
                let answer = servers.ask(transport, &Ask { method, ..Ask::of(headers) }).await;
                assert!(answer.status == 200 || answer.text().contains("gRPC"), "{answer:?}");
                answer
            };
            for other in
                ["text/plain", "application/json", "application/grpc+json", "application/grpcx", "", WEB_JSON]
            {
                let answer = ask(Method::POST, other).await;
                assert_eq!(answer.status, 415, "{other} by {transport:?}");
            }
            for method in [Method::GET, Method::PUT, Method::OPTIONS, Method::DELETE] {
                let answer = ask(method.clone(), WEB).await;
                assert_eq!(
                    (answer.status.as_u16(), &answer.headers["allow"]),
                    (405, &HeaderValue::from_static("POST")),
                    "{method} by {transport:?}"
                );
            }
            for web in [WEB, "application/grpc-web+proto;charset=utf-8", "Application/GRPC-Web ; x=y"] {
                assert!(ask(Method::POST, web).await.is_42(), "{web} by {transport:?}");
            }
            for grpc in [GRPC, "application/grpc+proto", "application/grpc; charset=utf-8"] {
                let answer = ask(Method::POST, grpc).await;
                let is_http2 = transport.0 == Version::HTTP_2;
                assert_eq!(answer.is_42(), is_http2, "{grpc} by {transport:?}");
                assert!(is_http2 || answer.headers["grpc-message"].to_str().unwrap().contains("HTTP/1.1"));
            }
        }
    });
}

#[test]
fn a_page_calls_the_server_that_it_is_from_and_no_other_unless_it_was_named() {
    let settings = Settings {
        grpc_web_origins: vec![HeaderValue::from_static("https://one.example")],
        grpc_web_hosts: vec!["grpc.example.com".to_owned()],
        ..Settings::default()
    };
    let site = "sec-fetch-site";
    // To a host, with a header: whether it is let in.
    let cases = [
        ("localhost:50051", None, true),
        ("anything.example", None, true),
        // Node's fetch, which no page uses.
        ("anything.example", Some(("sec-fetch-mode", "cors")), true),
        ("localhost:50051", Some(("origin", "http://localhost:50051")), true),
        ("LOCALHOST", Some(("origin", "https://localhost")), true),
        ("127.0.0.5:1", Some(("origin", "http://127.0.0.5:1")), true),
        ("[::1]:1", Some(("origin", "http://[::1]:1")), true),
        ("grpc.example.com", Some(("origin", "https://grpc.example.com")), true),
        ("grpc.example.com", Some(("origin", "https://one.example")), true),
        ("localhost:50051", Some((site, "same-origin")), true),
        ("localhost:50051", Some(("origin", "http://localhost:50052")), false),
        ("localhost:50051", Some(("origin", "https://evil.example")), false),
        ("localhost:50051", Some(("origin", "https://one.example.evil.example")), false),
        ("localhost:50051", Some(("origin", "null")), false),
        ("localhost:50051", Some((site, "cross-site")), false),
        ("localhost:50051", Some((site, "none")), false),
        ("localhost:50051", Some(("sec-fetch-mode", "no-cors")), false),
        // Names that lead here for a moment.
        ("evil.example:50051", Some(("origin", "http://evil.example:50051")), false),
        ("evil.example:50051", Some((site, "same-origin")), false),
        ("localhost.evil.example", Some(("origin", "https://one.example")), false),
        ("192.0.2.1", Some(("origin", "http://192.0.2.1")), false),
    ];
    run(async {
        let servers = Servers::with(settings).await;
        for transport in TRANSPORTS {
            let grpc = (transport.0 == Version::HTTP_2).then_some(GRPC);
            for content_type in grpc.into_iter().chain([WEB]) {
                for (host, header, may) in cases {
                    let headers = header.into_iter().chain([("content-type", content_type)]).collect();
                    let answer = servers.ask(transport, &Ask { host, ..Ask::of(headers) }).await;
                    let what =
                        format!("{header:?} at {host} by {transport:?} with {content_type}: {answer:?}");
                    assert_eq!(answer.is_42(), may, "{what}");
                    assert!(
                        may || (answer.status == 403 && answer.text().contains("`--grpc-web-")),
                        "{what}"
                    );
                    let allowed = answer.headers.get("access-control-allow-origin");
                    let is_other = header == Some(("origin", "https://one.example")) && may;
                    assert_eq!(allowed.is_some(), is_other, "{what}");
                }
            }
            for (origin, status) in [("https://one.example", 200), ("https://evil.example", 403)] {
                let headers = vec![("origin", origin), ("access-control-request-method", "POST")];
                let ask = Ask { method: Method::OPTIONS, body: Vec::new(), ..Ask::of(headers) };
                let answer = servers.ask(transport, &ask).await;
                assert_eq!(answer.status, status, "{origin} by {transport:?}");
                let allowed = answer.headers.get("access-control-allow-origin");
                assert_eq!(allowed.is_some(), status == 200, "{origin} by {transport:?}");
            }
        }
    });
}

#[test]
fn a_call_that_takes_one_message_gets_unimplemented_for_none_and_for_two() {
    run(async {
        let servers = Servers::with(Settings::default()).await;
        let id = uuid::Uuid::new_v4().to_string();
        let task = |below| {
            let work = Some(Work::CountPrimes(CountPrimes { below }));
            SubmitTaskRequest { request_id: id.clone(), work }
        };
        let submit = framed(&task(10));
        let probe = framed(&UnaryRequest::default());
        for transport in TRANSPORTS {
            let content_type = if transport.0 == Version::HTTP_2 { GRPC } else { WEB };
            let stream = format!("{PROBE}/ServerStreaming");
            for (path, message) in [(SUBMIT, &submit), (&stream, &probe)] {
                for times in [0, 2, 3] {
                    let ask = Ask {
                        path,
                        body: message.repeat(times),
                        ..Ask::of(vec![("content-type", content_type)])
                    };
                    let answer = servers.ask(transport, &ask).await;
                    let what = format!("{times} messages to {path} by {transport:?}: {answer:?}");
                    assert_eq!(
                        (answer.status.as_u16(), answer.grpc_status().as_deref()),
                        (200, Some("12")),
                        "{what}"
                    );
                }
            }
        }
        // None of them was carried out: the id is still nobody's.
        unary(servers.plain.address).submit_task(task(20)).await.unwrap();
    });
}

#[test]
fn a_head_has_one_limit_and_what_is_over_it_a_status() {
    run(async {
        for limit in [8000, Limits::HEADERS] {
            let limits = Limits { headers: limit, ..Limits::default() };
            let servers = Servers::with(Settings { limits, ..Settings::default() }).await;
            let limit = limit as usize;
            // Of a client that does not know yet how long a frame may be, seven are taken.
            let far_too_long = (limit * 6).min(100_000);
            let [short, long, far_too_long] =
                [limit * 7 / 8, limit, far_too_long].map(|length| "x".repeat(length));
            for transport in TRANSPORTS {
                let content_type = ("content-type", if transport.0 == Version::HTTP_2 { GRPC } else { WEB });
                // Each header counts for 32 bytes more than it has.
                for (value, times, fits) in [
                    (&*short, 1, true),
                    (&*long, 1, false),
                    (&*far_too_long, 1, false),
                    ("1", limit / 42, true),
                    ("1", limit / 34, false),
                ] {
                    let mut headers = vec![("x-long", value); times];
                    headers.push(content_type);
                    let answer = servers.ask(transport, &Ask::of(headers)).await;
                    let what = format!("{times} of {} bytes by {transport:?}: {answer:?}", value.len());
                    assert_eq!(answer.is_42(), fits, "{what}");
                    assert!(fits || answer.grpc_status().as_deref() == Some("8"), "{what}");
                }
                let path = &format!("/{}", &long[..limit - 500]);
                let answer = servers.ask(transport, &Ask { path, ..Ask::of(vec![content_type]) }).await;
                let what = format!("a path of {} bytes by {transport:?}: {answer:?}", path.len());
                assert_eq!(answer.grpc_status().as_deref(), Some("12"), "{what}");
            }
        }
    });
}

#[test]
fn an_early_answer_arrives_while_the_request_is_still_sent() {
    const LENGTH: usize = 4 << 20;
    run(async {
        let servers = Servers::with(Settings::default()).await;
        // Over HTTP/1.1 there is nothing but the end of the connection to stop a
        // client that sends all of its request before it reads.
        for (tls, head, expected) in [
            (false, "content-type: text/plain", "HTTP/1.1 415 "),
            (true, "content-type: text/plain", "HTTP/1.1 415 "),
            (false, "content-type: application/grpc-web\r\ngrpc-encoding: none", "grpc-status: 12"),
            (false, "content-type: application/grpc-web", "grpc-status: 8"),
            (true, "content-type: application/grpc-web", "grpc-status: 8"),
        ] {
            for round in 0..10 {
                let mut peer = servers.socket((Version::HTTP_11, tls)).await;
                let head = format!(
                    "POST {MULTIPLY} HTTP/1.1\r\nhost: x\r\n{head}\r\ncontent-length: {LENGTH}\r\n\r\n"
                );
                let body = [&[0_u8], &(LENGTH as u32 - 5).to_be_bytes()[..], &vec![0; LENGTH - 5]].concat();
                let mut answer = Vec::new();
                within(peer.write_all(&[head.as_bytes(), &body].concat())).await.expect(expected);
                within(peer.read_to_end(&mut answer)).await.expect(expected);
                let answer = String::from_utf8_lossy(&answer);
                assert!(answer.contains(expected), "{round}, TLS {tls}: {answer}");
            }
        }
    });
}

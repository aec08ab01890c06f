//! The page from outside, over real sockets.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{net::SocketAddr, sync::Arc};

use page::{Access, Asked, Page, serve};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

struct Served {
    address: SocketAddr,
    page: Arc<Page>,
}

impl Served {
    async fn start(names: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        Self::with(listener, address, Access::to(address, &names))
    }

    fn with(listener: TcpListener, address: SocketAddr, access: Access) -> Self {
        let page = Arc::new(Page::default());
        let echo = Asked::new(async |question: Value| match question["fails"] == true {
            true => Err("as asked".to_owned()),
            false => Ok(question),
        });
        tokio::spawn(serve(listener, page.clone(), access, Some(echo), std::future::pending()));
        Self { address, page }
    }

    async fn ask(&self, request: &str) -> BufReader<TcpStream> {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        BufReader::new(socket)
    }

    /// All of an answer.
    async fn get(&self, path: &str, headers: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        let mut answer = String::new();
        self.ask(&request).await.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

async fn event(stream: &mut BufReader<TcpStream>) -> Vec<Value> {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).await.unwrap() > 0, "the stream has ended");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).unwrap();
        }
    }
}

#[tokio::test]
async fn every_file_has_its_type_and_no_other_host_is_needed() {
    let served = Served::start(&[]).await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/calls.js", "text/javascript"),
        ("/diagram.js", "text/javascript"),
        ("/chart.js", "text/javascript"),
        ("/corner.js", "text/javascript"),
    ] {
        let answer = served.get(path, "Host: localhost:8080\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert!(answer.contains(&format!("content-type: {kind}")), "{path}: {answer}");
        assert!(answer.contains("content-security-policy: default-src 'self'"), "{path}: {answer}");
        // The name space of SVG is a name, and no address.
        let (_, content) = answer.split_once("\r\n\r\n").unwrap();
        assert!(!content.replace("http://www.w3.org/2000/svg", "").contains("//www"), "{path}");
    }
    assert!(served.get("/nothing", "Host: localhost\r\n").await.starts_with("HTTP/1.1 404 "));
    let mut posted = String::new();
    let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    served.ask(post).await.read_to_string(&mut posted).await.unwrap();
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
}

#[tokio::test]
async fn foreign_names_and_origins_are_refused() {
    let served = Served::start(&["calls.example"]).await;
    let own = format!("Host: {0}\r\nOrigin: http://{0}\r\n", served.address);
    for (headers, status) in [
        ("Host: localhost\r\n", 200),
        ("Host: LOCALHOST:1234\r\n", 200),
        ("Host: [::1]:1234\r\n", 200),
        ("Host: calls.example\r\n", 200),
        (own.as_str(), 200),
        ("", 403),
        ("Host: evil.example\r\n", 403),
        ("Host: localhost.evil.example\r\n", 403),
        ("Host: localhost\r\nOrigin: http://evil.example\r\n", 403),
        ("Host: localhost\r\nOrigin: https://localhost\r\n", 403),
        ("Host: localhost\r\nOrigin: null\r\n", 403),
        ("Host: localhost\r\nOrigin: http://localhost:1\r\n", 403),
    ] {
        let answer = served.get("/", headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers:?}: {answer}");
    }
}

#[tokio::test]
async fn an_address_for_others_asks_for_a_token_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // As if it listened there.
    let elsewhere: SocketAddr = "192.0.2.1:80".parse().unwrap();
    let access = Access::to(elsewhere, &[]);
    let url = access.url(elsewhere);
    let token = url.strip_prefix("http://192.0.2.1:80/?token=").unwrap();
    let served = Served::with(listener, address, access.clone());
    let host = "Host: 192.0.2.1\r\n";
    assert!(served.get("/events", host).await.starts_with("HTTP/1.1 401 "));
    assert!(served.get("/?token=wrong", host).await.starts_with("HTTP/1.1 401 "));
    let given = served.get(&format!("/?token={token}"), host).await;
    let cookie = given.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(given.starts_with("HTTP/1.1 303 ") && cookie.contains("HttpOnly; SameSite=Strict"), "{given}");
    let (cookie, _) = cookie.split_once(';').unwrap();
    let page = served.get("/", &format!("{host}Cookie: other=1; {cookie}\r\n")).await;
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    assert!(!page.contains(token), "{page}");
}

#[tokio::test]
async fn events_come_while_calls_run_and_end_with_the_viewer() {
    let served = Served::start(&[]).await;
    assert!(!served.page.is_watched());
    let mut stream = served.ask("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut line = String::new();
    while !line.starts_with(": the events") {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
    }
    served.page.event(1, || json!({"type": "headers", "path": "</script><b>\u{1b}"}));
    let expected = json!({"type": "headers", "path": "</script><b>\u{1b}", "call": 1});
    assert_eq!(event(&mut stream).await, [expected]);
    served.page.event(1, || json!({"type": "half_close"}));
    assert_eq!(event(&mut stream).await, [json!({"type": "half_close", "call": 1})]);
    drop(stream);
    // The end of the connection is seen at the next write at the latest.
    for number in 0.. {
        if !served.page.is_watched() {
            break;
        }
        served.page.event(2, || json!({"type": "message", "number": number}));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn only_the_page_itself_may_ask() {
    let served = Served::start(&[]).await;
    let own =
        format!("Host: {0}\r\nOrigin: http://{0}\r\nContent-Type: application/json\r\n", served.address);
    let ask = async |headers: &str, body: &str| {
        let length = body.len();
        let head =
            format!("POST /ask HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        served.ask(&(head + body)).await.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = ask(&own, r#"{"a":1}"#).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n{\"a\":1}"), "{answer}");
    assert!(ask(&own, r#"{"fails":true}"#).await.ends_with(r#"{"error":"as asked"}"#));
    assert!(ask(&own, "{").await.contains("cannot be read"));
    for (without, status) in [("Origin: ", 403), ("Content-Type: ", 403), ("Host: ", 403)] {
        let headers: String = own.split_inclusive('\n').filter(|line| !line.starts_with(without)).collect();
        let answer = ask(&headers, r#"{"a":1}"#).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{without}: {answer}");
    }
    let foreign = own.replace("Origin: http://", "Origin: http://evil.");
    assert!(ask(&foreign, r#"{"a":1}"#).await.starts_with("HTTP/1.1 403 "));
    assert!(served.get("/ask", "Host: localhost\r\n").await.starts_with("HTTP/1.1 405 "));
}

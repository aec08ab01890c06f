//! What a server answers, and what it bounds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_rpc::{
    Client, ClientLimits, ConnectionError, Event, Limits, Registry, ServerLimits, Transport, serve_connection,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::support::{ALL, Args, Server, multiply, registry};

#[tokio::test]
async fn one_port_speaks_all_three_transports() {
    let server = Server::start(ServerLimits::default()).await;
    for transport in ALL {
        let client = server.client(transport).await;
        assert_eq!(multiply(&client, 6, 7).await.unwrap(), 42, "{transport}");
        assert_eq!(multiply(&client, 0, -7).await.unwrap(), 0, "{transport}");
        assert_eq!(multiply(&client, i64::MIN, 1).await.unwrap(), i64::MIN, "{transport}");
        let args = Args { a: 1, b: 1 };
        client.call::<_, ()>("MathService.Nothing", &args).await.unwrap();
    }
}

#[tokio::test]
async fn errors_are_those_of_go_and_the_connection_goes_on() {
    let server = Server::start(ServerLimits::default()).await;
    for transport in ALL {
        let client = server.client(transport).await;
        for (method, text) in [
            ("MathService.Nope", "rpc: can't find method MathService.Nope"),
            ("Nope.Multiply", "rpc: can't find service Nope.Multiply"),
            ("Nope", "rpc: service/method request ill-formed: Nope"),
            ("MathService.Multiply", "overflow"),
            ("MathService.Panic", "rpc: the method has failed"),
            ("MathService.NoText", "unspecified error"),
        ] {
            let args = Args { a: i64::MAX, b: 2 };
            let error = client.call::<_, i64>(method, &args).await.unwrap_err();
            assert_eq!(error.to_string(), text, "{transport}");
        }
        let wrong = client.call::<_, i64>("MathService.Multiply", &"x".to_owned()).await.unwrap_err();
        let text = match transport {
            Transport::Json => "json: cannot unmarshal string into Go value of type Args",
            _ => "gob: type mismatch in decoder: want struct type Args; got non-struct",
        };
        assert_eq!(wrong.to_string(), text);
        assert_eq!(multiply(&client, 6, 7).await.unwrap(), 42, "{transport}");
    }
}

/// What a server sends back until it closes.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn http_but_connect_is_refused_as_in_go() {
    let server = Server::start(ServerLimits::default()).await;
    for (request, status, text) in [
        ("GET /_goRPC_ HTTP/1.1\r\nHost: x\r\n\r\n", "405 Method Not Allowed", "405 must CONNECT\n"),
        ("CONNECT /else HTTP/1.0\n\n", "404 Not Found", "404 page not found\n"),
        ("NONSENSE\n\n", "400 Bad Request", "400 Bad Request"),
    ] {
        let answer = exchange(&mut server.stream().await, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.0 {status}\r\n")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{text}")), "{answer}");
    }
    let answer = exchange(&mut server.stream().await, b"CONNECT /_goRPC_ HTTP/1.0\n\n").await;
    assert_eq!(answer, "HTTP/1.0 200 Connected to Go RPC\n\n");
}

#[tokio::test]
async fn json_is_read_as_go_reads_it() {
    let server = Server::start(ServerLimits::default()).await;
    for (request, answer) in [
        // Any id is echoed.
        (r#"{"method":"M","params":[{"A":6,"B":7}],"id":"six"}"#, r#"{"id":"six","result":42,"error":null}"#),
        (
            r#"{"method":"M","params":[{"A":6,"B":7}],"id":{"n":[1]}}"#,
            r#"{"id":{"n":[1]},"result":42,"error":null}"#,
        ),
        (r#"{"method":"M","params":[{"A":6,"B":7}]}"#, r#"{"id":null,"result":42,"error":null}"#),
        // Absent fields are zero, names are in any case, and further members and parameters are ignored.
        (
            r#" {"params":[{"a":6,"B":7,"C":1},2],"id":1,"method":"M","x":"}"}"#,
            r#"{"id":1,"result":42,"error":null}"#,
        ),
        (r#"{"method":"M","params":[{"A":6}],"id":1}"#, r#"{"id":1,"result":0,"error":null}"#),
        (r#"{"method":"M","params":[],"id":1}"#, r#"{"id":1,"result":0,"error":null}"#),
        (r#"{"method":"M","params":[{"A":null}],"id":1}"#, r#"{"id":1,"result":0,"error":null}"#),
        (
            r#"{"method":"M","params":[{"A":1.5}],"id":1}"#,
            r#"{"id":1,"result":null,"error":"json: cannot unmarshal number 1.5 into Go struct field Args.A of type int"}"#,
        ),
        (
            r#"{"method":"M","params":{"A":1},"id":1}"#,
            r#"{"id":1,"result":null,"error":"json: cannot unmarshal object into Go value of type [1]interface {}"}"#,
        ),
        (
            r#"{"method":"M","id":1}"#,
            r#"{"id":1,"result":null,"error":"jsonrpc: request body missing params"}"#,
        ),
    ] {
        let request = request.replace(r#""M""#, r#""MathService.Multiply""#);
        // Twice, without a delimiter.
        let got = exchange(&mut server.stream().await, format!("{request}{request}").as_bytes()).await;
        assert_eq!(got, format!("{answer}\n{answer}\n"), "{request}");
    }
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection_after_the_answers() {
    let server = Server::start(ServerLimits::default()).await;
    let good = r#"{"method":"MathService.Multiply","params":[{"A":6,"B":7}],"id":1}"#;
    for bad in ["x", "[]", r#"{"method":}"#, r#"{"method":1}"#, "{]"] {
        let mut stream = server.stream().await;
        stream.write_all(format!("{good}{bad}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        // The server closes, though this end has not.
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "{\"id\":1,\"result\":42,\"error\":null}\n", "{bad}");
    }
}

#[tokio::test]
async fn messages_are_understood_however_they_are_cut() {
    let registry = Arc::new(registry(Arc::default()));
    for transport in ALL {
        // One byte at a time, in both directions.
        let (ours, theirs) = duplex(1);
        let registry = Arc::clone(&registry);
        let served = tokio::spawn(async move {
            serve_connection(theirs, &registry, &Limits::default(), |_| (), std::future::pending()).await
        });
        let client = Client::connect(ours, transport, ClientLimits::default(), |_| ()).await.unwrap();
        for n in 0..20 {
            assert_eq!(multiply(&client, n, -n).await.unwrap(), -n * n, "{transport}");
        }
        assert!(multiply(&client, i64::MAX, 2).await.is_err());
        drop(client);
        served.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_message_is_reported() {
    let registry = registry(Arc::default());
    let sent = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&sent);
    let server = Server::start(ServerLimits::default()).await;
    let client =
        Client::connect(server.stream().await, Transport::Tcp, ClientLimits::default(), move |passed| {
            if !passed.received {
                keep.lock().unwrap().extend_from_slice(passed.bytes);
            }
        });
    let client = client.await.unwrap();
    multiply(&client, 6, 7).await.unwrap();
    let request = sent.lock().unwrap().clone();
    for end in 0..=request.len() {
        let calls = AtomicUsize::new(0);
        let io = tokio::io::join(&request[..end], tokio::io::sink());
        let count = |_: net_rpc::Call<'_>| _ = calls.fetch_add(1, Ordering::Relaxed);
        let ended = serve_connection(io, &registry, &Limits::default(), count, std::future::pending()).await;
        match ended {
            Ok(()) => assert!(end == 0 || end == request.len(), "{end}"),
            Err(ConnectionError::UnexpectedEof) => assert!(end > 0 && end < request.len(), "{end}"),
            Err(other) => panic!("{end}: {other}"),
        }
        assert_eq!(calls.into_inner(), usize::from(end == request.len()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_not_buffered_for() {
    let (mut ours, theirs) = duplex(1 << 10);
    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    let mut registry = Registry::new();
    let large = move |args: Args| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, String>("x".repeat(args.a as usize)) }
    };
    registry.register("S.Large", large).unwrap();
    let flood = async {
        let request = br#"{"method":"S.Large","params":[{"A":1000}],"id":1}"#;
        // 10 MB of answers. Writes fail when the server has given up.
        for _ in 0..10_000 {
            if ours.write_all(request).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let limits = Limits { unsent: 10_000, calls: 5, idle: Duration::from_secs(60), ..Limits::default() };
    let answered = AtomicUsize::new(0);
    let observe = |call: net_rpc::Call<'_>| _ = answered.fetch_add(call.bytes_out, Ordering::Relaxed);
    let ended = tokio::select! {
        ended = serve_connection(theirs, &registry, &limits, observe, std::future::pending()) => ended,
        () = flood => unreachable!(),
    };
    assert!(matches!(ended, Err(ConnectionError::Idle(_))), "{ended:?}");
    let answered = answered.into_inner();
    // What the pipe holds, what may be unsent, and the answer that went over it.
    assert!((10_000..1_024 + 10_000 + 1_100).contains(&answered), "{answered} bytes were encoded");
    assert!(started.load(Ordering::Relaxed) <= answered / 1_000 + 5);
}

#[tokio::test(start_paused = true)]
async fn calls_over_a_limit_wait() {
    // A request takes 61 bytes.
    for limits in [Limits { calls: 2, ..Limits::default() }, Limits { requests: 100, ..Limits::default() }] {
        let gate = Arc::new(Notify::new());
        let registry = registry(Arc::clone(&gate));
        let (ours, theirs) = duplex(1 << 16);
        tokio::spawn(async move {
            serve_connection(theirs, &registry, &limits, |_| (), std::future::pending()).await.unwrap();
        });
        let client = Client::connect(ours, Transport::Json, ClientLimits::default(), |_| ()).await.unwrap();
        let args = Args { a: 5, b: 0 };
        let wait = || client.call::<_, i64>("MathService.Wait", &args);
        let both = async { tokio::join!(wait(), wait()) };
        let (mut both, mut third) = (std::pin::pin!(both), std::pin::pin!(multiply(&client, 6, 7)));
        // Paused time passes when there is nothing left to do.
        tokio::select! {
            biased;
            _ = both.as_mut() => unreachable!("the gate is closed"),
            product = third.as_mut() => panic!("{product:?}, though two calls are open"),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        gate.notify_one();
        assert_eq!(third.await.unwrap(), 42);
        gate.notify_one();
        let (first, second) = both.await;
        assert_eq!((first.unwrap(), second.unwrap()), (5, 5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_at_rest_ends_and_one_with_an_open_call_does_not() {
    let gate = Arc::new(Notify::new());
    let registry = registry(Arc::clone(&gate));
    let limits = Limits { idle: Duration::from_secs(60), ..Limits::default() };
    for sent in ["", "{\"method\"", "CONNECT", "CONNECT /_goRPC_ HTTP/1.0\n\n"] {
        let (mut ours, theirs) = duplex(1 << 10);
        ours.write_all(sent.as_bytes()).await.unwrap();
        let ended = serve_connection(theirs, &registry, &limits, |_| (), std::future::pending()).await;
        assert!(matches!(ended, Err(ConnectionError::Idle(_))), "{sent}: {ended:?}");
    }
    let (ours, theirs) = duplex(1 << 10);
    let served = tokio::spawn(async move {
        serve_connection(theirs, &registry, &limits, |_| (), std::future::pending()).await
    });
    let client = Client::connect(ours, Transport::Tcp, ClientLimits::default(), |_| ()).await.unwrap();
    let args = Args { a: 5, b: 0 };
    let mut call = std::pin::pin!(client.call::<_, i64>("MathService.Wait", &args));
    assert!(tokio::time::timeout(Duration::from_secs(3_600), call.as_mut()).await.is_err());
    gate.notify_one();
    assert_eq!(call.await.unwrap(), 5);
    assert!(matches!(served.await.unwrap(), Err(ConnectionError::Idle(_))));
}

#[tokio::test]
async fn after_the_shutdown_open_calls_are_answered() {
    for transport in ALL {
        let server = Server::start(ServerLimits::default()).await;
        let (address, gate) = (server.address, Arc::clone(&server.gate));
        let client = server.client(transport).await;
        let args = Args { a: 5, b: 0 };
        let mut call = std::pin::pin!(client.call::<_, i64>("MathService.Wait", &args));
        // The later call is answered, so the earlier one has arrived.
        tokio::select! {
            biased;
            _ = call.as_mut() => unreachable!("the gate is closed"),
            later = multiply(&client, 1, 1) => assert_eq!(later.unwrap(), 1),
        }
        let stopped = server.stop();
        // Once the port is closed the shutdown is known.
        while TcpStream::connect(address).await.is_ok() {}
        gate.notify_one();
        assert_eq!(call.await.unwrap(), 5, "{transport}");
        assert_eq!(stopped.await.unwrap(), 0);
        assert!(multiply(&client, 1, 1).await.is_err());
    }
}

#[tokio::test]
async fn a_call_that_does_not_end_is_dropped_when_the_drain_is_over() {
    let server = Server::start(ServerLimits { drain: Duration::ZERO, ..ServerLimits::default() }).await;
    let client = server.client(Transport::Tcp).await;
    let args = Args { a: 5, b: 0 };
    let mut call = std::pin::pin!(client.call::<_, i64>("MathService.Wait", &args));
    // The later call is answered, so the earlier one has arrived.
    tokio::select! {
        biased;
        _ = call.as_mut() => unreachable!("the gate is closed"),
        later = multiply(&client, 1, 1) => assert_eq!(later.unwrap(), 1),
    }
    assert_eq!(server.stop().await.unwrap(), 1);
    assert_eq!(call.await.unwrap_err().to_string(), "unexpected EOF");
}

/// How many of something; `just net-rpc-soak` wants more.
fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_calls_are_pipelined_on_a_connection() {
    const CALLERS: i64 = 1_000;
    let each = count("NET_RPC_CALLS", 20_000) as i64 / CALLERS;
    let server = Server::start(ServerLimits::default()).await;
    for transport in [Transport::Tcp, Transport::Json] {
        let client = server.client(transport).await;
        let mut all = JoinSet::new();
        for caller in 0..CALLERS {
            let client = client.clone();
            all.spawn(async move {
                for n in 0..each {
                    assert_eq!(multiply(&client, caller, n).await.unwrap(), caller * n);
                }
            });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
    }
}

#[tokio::test]
async fn a_thousand_connections_come_and_go() {
    let connections = count("NET_RPC_CONNECTIONS", 1_000);
    let (sender, mut closed) = mpsc::unbounded_channel();
    let observe = move |peer: Option<std::net::SocketAddr>, event: Event<'_>| {
        if let Event::Closed(ended) = event {
            sender.send((peer, ended)).unwrap();
        }
    };
    // Room for fewer than come in all.
    let server = Server::observed(ServerLimits { connections: 10, ..ServerLimits::default() }, observe).await;
    for n in 0..connections {
        let client = server.client(ALL[n % 3]).await;
        assert_eq!(multiply(&client, 6, 7).await.unwrap(), 42);
    }
    for _ in 0..connections {
        let (peer, ended) = closed.recv().await.unwrap();
        ended.unwrap();
        assert!(peer.is_some());
    }
    assert_eq!(server.stop().await.unwrap(), 0);
}

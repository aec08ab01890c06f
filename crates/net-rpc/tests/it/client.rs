//! What a client makes of answers.

use std::sync::{Arc, Mutex};

use net_rpc::{CallError, Client, ClientLimits, ConnectError, ServerLimits, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::support::{ALL, Args, Server, multiply};

#[tokio::test]
async fn answers_overtake_and_the_observer_sees_all_bytes() {
    for transport in ALL {
        let server = Server::start(ServerLimits::default()).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&seen);
        let observe = move |passed: net_rpc::Passed<'_>| {
            let error = passed.error.map(str::to_owned);
            keep.lock().unwrap().push((
                passed.received,
                passed.seq,
                passed.method.to_owned(),
                error,
                passed.bytes.len(),
            ));
        };
        let client = Client::connect(server.stream().await, transport, ClientLimits::default(), observe)
            .await
            .unwrap();
        let slow = client.clone();
        let slow =
            async move { slow.call::<_, i64>("MathService.Wait", &Args { a: 5, b: 0 }).await.unwrap() };
        let quick = async {
            assert_eq!(multiply(&client, 6, 7).await.unwrap(), 42);
            assert!(multiply(&client, i64::MAX, 7).await.is_err());
            server.gate.notify_one();
        };
        let (slow, ()) = tokio::join!(slow, quick);
        assert_eq!(slow, 5);
        let seen = seen.lock().unwrap();
        let order: Vec<_> = seen.iter().map(|(received, seq, ..)| (*received, *seq)).collect();
        assert_eq!(
            order,
            [(false, 0), (false, 1), (true, 1), (false, 2), (true, 2), (true, 0)],
            "{transport}"
        );
        assert_eq!(seen[5].2, "MathService.Wait");
        assert_eq!(seen[4].3.as_deref(), Some("overflow"));
        assert!(seen.iter().all(|(.., bytes)| *bytes > 10));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_fails_its_calls_as_in_go() {
    let (ours, mut theirs) = duplex(1 << 10);
    let client = Client::connect(ours, Transport::Json, ClientLimits::default(), |_| ()).await.unwrap();
    let cut = async {
        // The request has arrived.
        theirs.read_u8().await.unwrap();
        drop(theirs);
    };
    let (called, ()) = tokio::join!(multiply(&client, 6, 7), cut);
    let error = called.unwrap_err();
    assert!(matches!(error, CallError::Connection(_)), "{error:?}");
    // Afterwards.
    let error = multiply(&client, 6, 7).await.unwrap_err();
    assert_eq!(error.to_string(), "connection is shut down");
}

/// What the client makes of the answer to its first call in JSON.
async fn answered(answer: &'static str) -> Result<i64, CallError> {
    let (ours, mut theirs) = duplex(1 << 10);
    let client = Client::connect(ours, Transport::Json, ClientLimits::default(), |_| ()).await.unwrap();
    let server = async {
        theirs.read_u8().await.unwrap();
        theirs.write_all(answer.as_bytes()).await.unwrap();
        theirs.shutdown().await.unwrap();
    };
    tokio::join!(multiply(&client, 6, 7), server).0
}

#[tokio::test]
async fn odd_answers_are_taken_as_in_go() {
    assert_eq!(answered(r#"{"id":0,"result":42,"error":null}"#).await.unwrap(), 42);
    // An answer to no call is read and forgotten.
    assert_eq!(answered(r#"{"id":9,"result":1,"error":null} {"id":0,"result":42}"#).await.unwrap(), 42);
    for (answer, text) in [
        (r#"{"id":0,"result":null,"error":""}"#, "unspecified error"),
        (r#"{"id":0,"result":null,"error":null}"#, "invalid error null"),
        (
            r#"{"id":0,"result":"x","error":null}"#,
            "reading body json: cannot unmarshal string into Go value of type int",
        ),
        (r#"{"id":9,"result":1,"error":null}"#, "unexpected EOF"),
        ("", "unexpected EOF"),
    ] {
        assert_eq!(answered(answer).await.unwrap_err().to_string(), text, "{answer}");
    }
}

#[tokio::test]
async fn a_reply_of_another_type_fails_its_call_alone() {
    let server = Server::start(ServerLimits::default()).await;
    let client = server.client(Transport::Tcp).await;
    let error = client.call::<_, String>("MathService.Multiply", &Args { a: 6, b: 7 }).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "reading body gob: decoding into local type *string, received remote type int"
    );
    assert_eq!(multiply(&client, 6, 7).await.unwrap(), 42);
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_does_no_harm() {
    let server = Server::start(ServerLimits::default()).await;
    let client = server.client(Transport::Http).await;
    let args = Args { a: 5, b: 0 };
    tokio::select! {
        biased;
        _ = client.call::<_, i64>("MathService.Wait", &args) => unreachable!("the gate is closed"),
        product = multiply(&client, 6, 7) => assert_eq!(product.unwrap(), 42),
    }
    server.gate.notify_one();
    assert_eq!(multiply(&client, 6, 7).await.unwrap(), 42);
}

#[tokio::test]
async fn an_http_server_that_knows_no_net_rpc_is_named() {
    for (answer, wanted) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "unexpected HTTP response: 404 Not Found"),
        ("HTTP/1.0 200 OK\n\n", "unexpected HTTP response: 200 OK"),
        ("nonsense\n\n", "unexpected HTTP response: nonsense"),
    ] {
        let (ours, mut theirs) = duplex(1 << 10);
        theirs.write_all(answer.as_bytes()).await.unwrap();
        let error =
            Client::connect(ours, Transport::Http, ClientLimits::default(), |_| ()).await.unwrap_err();
        assert_eq!(error.to_string(), wanted);
        let mut request = String::new();
        theirs.read_to_string(&mut request).await.unwrap();
        assert_eq!(request, "CONNECT /_goRPC_ HTTP/1.0\n\n");
    }
    let (ours, theirs) = duplex(1 << 10);
    drop(theirs);
    let error = Client::connect(ours, Transport::Http, ClientLimits::default(), |_| ()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Io(_)), "{error:?}");
}

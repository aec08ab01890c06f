//! Which calls are made again, how often, and what they say about it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{
    Code, Status,
    body::Body,
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};

use crate::client;

/// A server that answers each call to any method of one service in one way.
#[derive(Clone)]
struct Answering {
    answer: fn(usize) -> http::Response<Body>,
    /// Of each call, how many attempts it said that there were before.
    calls: Arc<Mutex<Vec<String>>>,
}

impl NamedService for Answering {
    const NAME: &'static str = "fourmodes.v1.UnaryService";
}

impl tower::Service<http::Request<Body>> for Answering {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let before = request.headers().get("grpc-previous-rpc-attempts");
        let before = before.map(|before| before.to_str().unwrap().to_owned()).unwrap_or_default();
        let mut calls = self.calls.lock().unwrap();
        calls.push(before);
        std::future::ready(Ok((self.answer)(calls.len())))
    }
}

fn answering(answer: fn(usize) -> http::Response<Body>) -> (Runtime, SocketAddr, Arc<Mutex<Vec<String>>>) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::<Mutex<Vec<String>>>::default();
    let service = Answering { answer, calls: calls.clone() };
    runtime.spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    (runtime, address, calls)
}

/// A failure for which there are other attempts, without a pause.
fn pushed_back(pushback: &str) -> http::Response<Body> {
    let mut status = Status::unavailable("pushed back");
    status.metadata_mut().insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
    status.into_http()
}

const CALLS: [&str; 6] = [
    "unary multiply 6 7",
    "unary status",
    "unary files",
    "unary submit primes --below 10",
    "unary task 7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42",
    "unary cancel 7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42",
];

#[test]
fn each_unary_call_is_made_again_until_there_is_an_answer() {
    for call in CALLS {
        let (_runtime, address, calls) = answering(|call| match call {
            1 | 2 => Status::unavailable("for a moment").into_http(),
            _ => Status::out_of_range("an answer").into_http(),
        });
        let ended = client(&format!("{call} --server {address} --deadline 1min --output json")).run();
        let ended = ended.failed(1, &["OUT_OF_RANGE", "an answer"]);
        assert_eq!(*calls.lock().unwrap(), ["", "1", "2"], "{call}");
        let reconnects = ended.json().iter().filter(|line| line["type"] == "reconnect").count();
        assert_eq!(reconnects, 2, "{}", ended.stdout);
    }
}

#[test]
fn a_call_is_made_five_times_and_no_more() {
    let (_runtime, address, calls) = answering(|_| Status::unavailable("for good").into_http());
    let call = format!("unary submit primes --below 10 --server {address} --deadline 1min");
    let ended = client(&call).run().failed(1, &["UNAVAILABLE", "for good"]);
    assert_eq!(*calls.lock().unwrap(), ["", "1", "2", "3", "4"]);
    assert!(ended.stdout.contains("submit it again with --request-id"), "{}", ended.stdout);
}

#[test]
fn what_the_server_refuses_is_not_asked_again() {
    for code in [Code::InvalidArgument, Code::ResourceExhausted, Code::Internal, Code::Aborted] {
        let (_runtime, address, calls) = match code {
            Code::InvalidArgument => answering(|_| Status::invalid_argument("no").into_http()),
            Code::ResourceExhausted => answering(|_| Status::resource_exhausted("no").into_http()),
            Code::Internal => answering(|_| Status::internal("no").into_http()),
            _ => answering(|_| Status::aborted("no").into_http()),
        };
        client(&format!("unary multiply 6 7 --server {address}")).run().failed(1, &["no"]);
        assert_eq!(calls.lock().unwrap().len(), 1, "{code:?}");
    }
}

#[test]
fn who_has_no_patience_does_not_come_back() {
    let (_runtime, address, calls) = answering(|_| Status::unavailable("for good").into_http());
    client(&format!("unary status --server {address} --reconnect 0s")).run().failed(1, &["UNAVAILABLE"]);
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[test]
fn as_many_attempts_are_made_as_the_user_says() {
    for attempts in 1..=5 {
        let (_runtime, address, calls) = answering(|_| pushed_back("0"));
        let call = format!("unary multiply 6 7 --server {address} --max-attempts {attempts}");
        client(&call).run().failed(1, &["UNAVAILABLE", "pushed back"]);
        assert_eq!(calls.lock().unwrap().len(), attempts);
    }
}

#[test]
fn the_pause_is_as_long_as_the_server_says() {
    let (_runtime, address, calls) = answering(|call| match call {
        1 => pushed_back("321"),
        _ => Status::out_of_range("an answer").into_http(),
    });
    let ended =
        client(&format!("unary status --output json --server {address}")).run().failed(1, &["an answer"]);
    let pauses = ended.json().into_iter().filter(|line| line["type"] == "reconnect");
    assert_eq!(pauses.map(|line| line["after_ms"].as_u64()).collect::<Vec<_>>(), [Some(321)]);
    assert_eq!(*calls.lock().unwrap(), ["", "1"]);
}

#[test]
fn there_is_no_other_attempt_against_the_server_s_will() {
    for answer in [|_| pushed_back("-1"), |_| pushed_back("in a moment"), |_| pushed_back("")] {
        let (_runtime, address, calls) = answering(answer);
        client(&format!("unary status --server {address}")).run().failed(1, &["UNAVAILABLE", "pushed back"]);
        assert_eq!(calls.lock().unwrap().len(), 1);
    }
}

#[test]
fn a_call_whose_answer_has_begun_is_not_made_again() {
    let (_runtime, address, calls) = answering(|_| {
        let mut trailers = http::HeaderMap::new();
        Status::unavailable("in the middle").add_header(&mut trailers).unwrap();
        let body = Empty::<Bytes>::new().with_trailers(std::future::ready(Some(Ok(trailers))));
        let response = http::Response::builder().header("content-type", "application/grpc");
        response.body(Body::new(body)).unwrap()
    });
    for quiet in ["", "--quiet"] {
        let call = format!("unary status {quiet} --server {address}");
        client(&call).run().failed(1, &["UNAVAILABLE", "in the middle"]);
    }
    assert_eq!(*calls.lock().unwrap(), ["", ""]);
}

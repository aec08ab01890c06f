//! Which calls are made again, how often, and what they say about it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{
    Code, Status,
    body::Body,
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};

use crate::support::client;

/// A server that answers each call to any method of one service with a status.
#[derive(Clone)]
struct Answering {
    answer: fn(usize) -> Status,
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
        std::future::ready(Ok((self.answer)(calls.len()).into_http()))
    }
}

fn answering(answer: fn(usize) -> Status) -> (Runtime, SocketAddr, Arc<Mutex<Vec<String>>>) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::<Mutex<Vec<String>>>::default();
    let service = Answering { answer, calls: calls.clone() };
    runtime.spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    (runtime, address, calls)
}

const CALLS: [&str; 5] = [
    "unary multiply 6 7",
    "unary status",
    "unary submit primes --below 10",
    "unary task 7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42",
    "unary cancel 7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42",
];

#[test]
fn each_unary_call_is_made_again_until_there_is_an_answer() {
    for call in CALLS {
        let (_runtime, address, calls) = answering(|call| match call {
            1 | 2 => Status::unavailable("for a moment"),
            _ => Status::out_of_range("an answer"),
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
    let (_runtime, address, calls) = answering(|_| Status::unavailable("for good"));
    let call = format!("unary submit primes --below 10 --server {address} --deadline 1min");
    let ended = client(&call).run().failed(1, &["UNAVAILABLE", "for good"]);
    assert_eq!(*calls.lock().unwrap(), ["", "1", "2", "3", "4"]);
    assert!(ended.stdout.contains("submit it again with --request-id"), "{}", ended.stdout);
}

#[test]
fn what_the_server_refuses_is_not_asked_again() {
    for code in [Code::InvalidArgument, Code::ResourceExhausted, Code::Internal, Code::Aborted] {
        let (_runtime, address, calls) = match code {
            Code::InvalidArgument => answering(|_| Status::invalid_argument("no")),
            Code::ResourceExhausted => answering(|_| Status::resource_exhausted("no")),
            Code::Internal => answering(|_| Status::internal("no")),
            _ => answering(|_| Status::aborted("no")),
        };
        client(&format!("unary multiply 6 7 --server {address}")).run().failed(1, &["no"]);
        assert_eq!(calls.lock().unwrap().len(), 1, "{code:?}");
    }
}

#[test]
fn who_has_no_patience_does_not_come_back() {
    let (_runtime, address, calls) = answering(|_| Status::unavailable("for good"));
    client(&format!("unary status --server {address} --reconnect 0s")).run().failed(1, &["UNAVAILABLE"]);
    assert_eq!(calls.lock().unwrap().len(), 1);
}

//! A server, and messages of any bytes to any of its methods.

#![no_main]

#[path = "automerge_panics.rs"]
mod automerge_panics;
mod seed;

use std::{cell::RefCell, future, time::Duration};

use bytes::Bytes;
use grpc_wire::Raw;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::{Corpus, fuzz_target};
use prost::Message as _;
use server::{Ready, config::Config};
use shared_proto::fourmodes::v1::{CountPrimes, SubmitTaskRequest, submit_task_request::Work};
use tokio::{io::DuplexStream, runtime::Runtime, time::timeout};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};

/// After so many calls there is a new server: its state grows.
const CALLS: u32 = 1000;
/// Of a stream no more messages are read.
const MESSAGES: usize = 8;

/// Time does not pass but jumps to whatever is waited for, so a call that waits
/// for a minute takes none.
struct World {
    runtime: Runtime,
    channel: Channel,
    calls: u32,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let channel = runtime.block_on(async {
            let (near, far) = tokio::io::duplex(1 << 20);
            let connections = tokio_stream::iter([Ok::<DuplexStream, std::io::Error>(far)]);
            let connections = tokio_stream::StreamExt::chain(connections, tokio_stream::pending());
            let server = Ready::open(Config::default()).await.expect("a server");
            tokio::spawn(server.serve_connections(connections, future::pending()));
            let mut near = Some(near);
            let connector = tower::service_fn(move |_| {
                let near =
                    near.take().ok_or_else(|| std::io::Error::other("the server ended the connection"));
                future::ready(near.map(TokioIo::new))
            });
            let endpoint = Endpoint::from_static("http://server.example");
            endpoint.connect_with_connector(connector).await.expect("a connection")
        });
        Self { runtime, channel, calls: 0 }
    }

    fn call(&mut self, path: &str, messages: Vec<Bytes>) -> Status {
        self.calls += 1;
        self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.expect("the connection is there");
            let path = path.parse().expect("a path");
            let request = Request::new(tokio_stream::iter(messages));
            let answer = async {
                let mut responses = client.streaming(request, path, Raw).await?.into_inner();
                for _ in 0..MESSAGES {
                    if responses.message().await?.is_none() {
                        break;
                    }
                }
                Ok(())
            };
            let ended = timeout(Duration::from_secs(7200), answer).await.expect("every call has an end");
            ended.err().unwrap_or_else(|| Status::ok(""))
        })
    }
}

/// The same, with less work: a task goes on when nobody waits for it.
fn short(message: Bytes) -> Bytes {
    match SubmitTaskRequest::decode(message.clone()) {
        Ok(SubmitTaskRequest { request_id, work: Some(Work::CountPrimes(CountPrimes { below })) }) => {
            let work = Work::CountPrimes(CountPrimes { below: below.min(1000) });
            SubmitTaskRequest { request_id, work: Some(work) }.encode_to_vec().into()
        }
        _ => message,
    }
}

// What is in the form of `seed.rs`. Bytes that name no method teach nothing.
fuzz_target!(init: automerge_panics::allow(), |bytes: &[u8]| -> Corpus {
    let Some((path, messages)) = seed::parse(bytes).filter(|(path, _)| shared_proto::method(path).is_some())
    else {
        return Corpus::Reject;
    };
    let messages = messages.into_iter().map(Bytes::copy_from_slice);
    let messages = match path.ends_with("/SubmitTask") {
        true => messages.map(short).collect(),
        false => messages.collect(),
    };
    WORLD.with_borrow_mut(|world| {
        let world_of = world.get_or_insert_with(World::new);
        let status = world_of.call(path, messages);
        // What tonic says of bytes that are no such message, and of no message.
        let undecoded = ["failed to decode Protobuf message", "Missing request message"];
        let undecoded = undecoded.iter().any(|said| status.message().starts_with(said));
        // These services answer with the status that the request asks for.
        let asks = ["/grpc.testing.", "/fourmodes.v1.ProbeService/"].iter().any(|it| path.starts_with(it));
        let wrong = matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss);
        assert!(!wrong || undecoded || asks, "{path}: {status:?}");
        if world_of.calls == CALLS {
            *world = None;
        }
    });
    Corpus::Keep
});

//! A server of somebody else: what comes, goes back.

use std::{
    convert::Infallible,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use grpc_wire::Raw;
use prost::Message as _;
use prost_types::{Any, FileDescriptorSet};
use schema::Schema;
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codec::{CompressionEncoding, EnabledCompressionEncodings},
    metadata::KeyAndValueRef,
    server::{Grpc, NamedService, StreamingService},
    transport::Server,
};
use tower::Service;

pub(crate) const PROTO: &str = r#"
syntax = "proto3";
package t;
import "google/protobuf/any.proto";
import "google/protobuf/timestamp.proto";
message M {
  int32 n = 1; string text = 2; repeated M more = 3; map<string, int64> map = 4; bytes raw = 5;
  oneof choice { string class = 6; bool fn = 7; }
  google.protobuf.Any any = 8; google.protobuf.Timestamp at_time = 9; uint64 big_number = 10;
  message In { M type = 1; }
  In in = 11;
}
// Sends back what it gets.
service Echo {
  rpc Unary(M) returns (M);
  rpc Many(M) returns (stream M);
  rpc Endless(M) returns (stream M);
  // Sends one, and nothing more.
  rpc Stalls(M) returns (stream M);
  rpc Collect(stream M) returns (M);
  rpc Each(stream M) returns (stream M);
  // Answers at the end.
  rpc Late(stream M) returns (stream M);
  // Ends before it has read anything.
  rpc Early(stream M) returns (stream M);
  rpc Never(stream M) returns (stream M);
  rpc Fail(M) returns (M);
  rpc Flaky(M) returns (M);
  rpc Silent(M) returns (M);
  rpc Twice(M) returns (M);
}
"#;

/// It ends when this is dropped.
pub(crate) struct Echo {
    pub(crate) url: String,
    /// `host:port`
    pub(crate) address: String,
    /// How many calls there were, without those of reflection.
    pub(crate) calls: Arc<AtomicU64>,
    /// How many messages have come.
    pub(crate) messages: Arc<AtomicU64>,
    /// The proto of its service.
    pub(crate) proto: PathBuf,
    pub(crate) descriptors: PathBuf,
    pub(crate) directory: TempDir,
    _runtime: Runtime,
}

impl Echo {
    pub(crate) fn start() -> Self {
        Self::with_reflection(true)
    }

    pub(crate) fn with_reflection(has_reflection: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let proto = directory.path().join("echo.proto");
        std::fs::write(&proto, PROTO).unwrap();
        let schema = Schema::compile(std::slice::from_ref(&proto), &[]).unwrap();
        let files = schema.pool().file_descriptor_protos().cloned().collect();
        let set = FileDescriptorSet { file: files }.encode_to_vec();
        let descriptors = directory.path().join("echo.binpb");
        std::fs::write(&descriptors, &set).unwrap();

        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = EchoService::default();
        let (calls, messages) = (service.calls.clone(), service.messages.clone());
        let reflection =
            tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(&set);
        let mut server = Server::builder();
        let router = server.add_service(service);
        let router = router.add_optional_service(has_reflection.then(|| reflection.build_v1alpha().unwrap()));
        #[cfg(unix)]
        {
            let socket = tokio::net::UnixListener::bind;
            let socket = {
                let _entered = runtime.enter();
                socket(directory.path().join("socket")).unwrap()
            };
            let incoming = tokio_stream::wrappers::UnixListenerStream::new(socket);
            runtime.spawn(router.clone().serve_with_incoming(incoming));
        }
        runtime.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        let url = format!("http://{address}");
        Self { url, address, calls, messages, proto, descriptors, directory, _runtime: runtime }
    }
}

#[derive(Clone, Default)]
struct EchoService {
    calls: Arc<AtomicU64>,
    messages: Arc<AtomicU64>,
    failures: Arc<AtomicU64>,
}

impl NamedService for EchoService {
    const NAME: &'static str = "t.Echo";
}

impl Service<http::Request<Body>> for EchoService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Relaxed);
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let method = Method { name, service: self.clone() };
        Box::pin(async move {
            let mut both = EnabledCompressionEncodings::default();
            both.enable(CompressionEncoding::Gzip);
            both.enable(CompressionEncoding::Zstd);
            let mut grpc =
                Grpc::new(Raw).apply_compression_config(both, EnabledCompressionEncodings::default());
            Ok(grpc.streaming(method, request).await)
        })
    }
}

struct Method {
    name: String,
    service: EchoService,
}

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl StreamingService<Bytes> for Method {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answers>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (name, service) = (self.name.clone(), self.service.clone());
        Box::pin(async move {
            let (metadata, _, messages) = request.into_parts();
            let count = service.messages.clone();
            let messages = messages.map(move |message| {
                count.fetch_add(u64::from(message.is_ok()), Relaxed);
                message
            });
            let answers: Answers = match name.as_str() {
                "Collect" | "Late" => {
                    let all: Vec<_> = messages.collect::<Result<_, _>>().await?;
                    let skip = if name == "Collect" { all.len().saturating_sub(1) } else { 0 };
                    Box::pin(tokio_stream::iter(all.into_iter().skip(skip).map(Ok)))
                }
                "Early" => Box::pin(tokio_stream::once(Ok(Bytes::from_static(b"\x08\x01")))),
                "Never" => Box::pin(messages.filter(|_| false).chain(tokio_stream::pending())),
                "Endless" => Box::pin(tokio_stream::iter(std::iter::repeat_with(|| {
                    Ok(Bytes::from_static(b"\x08\x01"))
                }))),
                "Stalls" => Box::pin(messages.chain(tokio_stream::pending())),
                "Silent" => std::future::pending().await,
                "Twice" => Box::pin(tokio_stream::iter([Ok(Bytes::new()), Ok(Bytes::new())])),
                "Many" => {
                    let all: Vec<_> = messages.collect::<Result<_, _>>().await?;
                    let count = all.first().and_then(|m| m.get(1)).map_or(0, |count| *count);
                    Box::pin(tokio_stream::iter((1..=count).map(|n| Ok(Bytes::copy_from_slice(&[8, n])))))
                }
                "Fail" => {
                    let own = Any { type_url: "x/t.M".to_owned(), value: b"\x08\x2a".to_vec() };
                    let code = Code::Aborted as i32;
                    let status = tonic_types::Status { code, message: "no".to_owned(), details: vec![own] };
                    return Err(Status::with_details(Code::Aborted, "no", status.encode_to_vec().into()));
                }
                "Flaky" if service.failures.fetch_add(1, Relaxed) < 2 => {
                    return Err(Status::unavailable("not now"));
                }
                _ => Box::pin(messages),
            };
            let mut response = Response::new(answers);
            for entry in metadata.iter() {
                match entry {
                    KeyAndValueRef::Ascii(key, value) if key.as_str().starts_with("x-") => {
                        response.metadata_mut().append(key, value.clone());
                    }
                    KeyAndValueRef::Binary(key, value) => {
                        response.metadata_mut().append_bin(key, value.clone());
                    }
                    _ => {}
                }
            }
            Ok(response)
        })
    }
}

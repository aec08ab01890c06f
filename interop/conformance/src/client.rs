//! Makes the calls that the runner wants, through the transport.

use std::{fs, future::pending, sync::Arc, time::Duration};

use anyhow::Context as _;
use grpc_wire::{Mode, Raw};
use prost::{Message as _, bytes::Bytes};
use tokio::{
    io::{stdin, stdout},
    sync::{Mutex, Notify, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, client::Grpc, codec::CompressionEncoding, metadata::MetadataMap};
use transport::{CallError, Channel, Connector, Identity, TlsFiles};

use crate::{
    headers,
    proto::{
        ClientCompatRequest, ClientCompatResponse, ClientErrorResult, ClientResponseResult, Compression,
        Error, StreamType, UnaryResponse, client_compat_request::cancel::CancelTiming,
        client_compat_response::Result as Ended,
    },
    read, write,
};

/// Makes calls, some side by side, until the runner has no more.
pub(crate) async fn run() -> anyhow::Result<()> {
    /// Each has a connection of its own.
    const AT_ONCE: usize = 8;
    let (mut stdin, stdout) = (stdin(), Arc::new(Mutex::new(stdout())));
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut calls = JoinSet::new();
    while let Some(request) = read::<ClientCompatRequest>(&mut stdin).await? {
        let (stdout, place) = (stdout.clone(), places.clone().acquire_owned().await?);
        calls.spawn(async move {
            let result = match connect(&request).await {
                Ok(channel) => Ended::Response(call(channel, &request).await),
                Err(error) => Ended::Error(ClientErrorResult { message: format!("{error:#}") }),
            };
            drop(place);
            let response = ClientCompatResponse { test_name: request.test_name, result: Some(result) };
            write(&mut *stdout.lock().await, &response).await
        });
    }
    calls.join_all().await.into_iter().collect::<Result<(), _>>().context("the runner does not listen")
}

async fn connect(request: &ClientCompatRequest) -> anyhow::Result<Channel> {
    let files = tempfile::tempdir()?;
    let file =
        |name: &str, pem: &[u8]| fs::write(files.path().join(name), pem).map(|()| files.path().join(name));
    let mut connector = Connector::default();
    let is_tls = !request.server_tls_cert.is_empty();
    if is_tls {
        let ca = Some(file("ca", &request.server_tls_cert)?);
        let identity = match &request.client_tls_creds {
            Some(creds) => Some(Identity {
                certificate: file("certificate", &creds.cert)?,
                key: file("key", &creds.key)?,
            }),
            None => None,
        };
        connector.tls = TlsFiles { ca, identity, ..TlsFiles::default() };
    }
    let scheme = if is_tls { "https" } else { "http" };
    let server = format!("{scheme}://{}:{}", request.host, request.port).parse()?;
    Ok(connector.connect(&server).await?)
}

async fn call(channel: Channel, request: &ClientCompatRequest) -> ClientResponseResult {
    let mut seen = ClientResponseResult::default();
    let cancelled = CancellationToken::new();
    let ended = tokio::select! {
        biased;
        // Dropped, the exchange is a call that is cancelled.
        () = cancelled.cancelled() => Err(Status::cancelled("the runner wants no more")),
        ended = exchange(channel, request, &cancelled, &mut seen) => ended,
    };
    if let Err(status) = ended {
        seen.response_trailers = headers::of(status.metadata());
        let details = tonic_types::Status::decode(status.details()).unwrap_or_default().details;
        let error = CallError::from(status);
        let code = error.code() as i32;
        seen.error = Some(Error { code, message: Some(error.message), details });
        if !mode(request).has_many_responses() {
            seen.payloads.clear();
        }
    }
    seen
}

async fn exchange(
    channel: Channel,
    asked: &ClientCompatRequest,
    cancelled: &CancellationToken,
    seen: &mut ClientResponseResult,
) -> Result<(), Status> {
    let answered = Arc::new(Notify::new());
    let mut request = Request::new(requests(asked.clone(), cancelled.clone(), answered.clone()));
    *request.metadata_mut() = MetadataMap::from_headers(headers::on_wire(&asked.request_headers)?);
    if let Some(timeout) = asked.timeout_ms {
        request.set_timeout(Duration::from_millis(timeout.into()));
    }
    request.extensions_mut().insert(mode(asked));
    let mut grpc = Grpc::new(channel)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd);
    grpc = match asked.compression() {
        Compression::Gzip => grpc.send_compressed(CompressionEncoding::Gzip),
        Compression::Zstd => grpc.send_compressed(CompressionEncoding::Zstd),
        _ => grpc,
    };
    if asked.message_receive_limit > 0 {
        grpc = grpc.max_decoding_message_size(asked.message_receive_limit as usize);
    }
    grpc.ready().await?;
    let path = format!("/{}/{}", asked.service(), asked.method());
    let path = path.parse().map_err(|_| Status::internal(format!("{path} is no path of a method")))?;
    let response = grpc.streaming(request, path, Raw).await?;
    seen.response_headers = headers::of(response.metadata());
    let mut responses = response.into_inner();
    while let Some(response) = responses.message().await? {
        // The responses of all methods have the same one field.
        let response =
            UnaryResponse::decode(response).map_err(|error| Status::internal(error.to_string()))?;
        seen.payloads.push(response.payload.unwrap_or_default());
        answered.notify_one();
        if timing(asked) == Some(CancelTiming::AfterNumResponses(seen.payloads.len() as u32)) {
            cancelled.cancel();
            pending::<()>().await;
        }
    }
    seen.response_trailers = responses.trailers().await?.as_ref().map(headers::of).unwrap_or_default();
    Ok(())
}

/// What is sent, and when. It says when the call is to be given up.
fn requests(
    asked: ClientCompatRequest,
    cancelled: CancellationToken,
    answered: Arc<Notify>,
) -> impl Stream<Item = Bytes> + Send + 'static {
    async_stream::stream! {
        let delay = Duration::from_millis(asked.request_delay_ms.into());
        for message in &asked.request_messages {
            sleep(delay).await;
            yield Bytes::from(message.value.clone());
            if asked.stream_type() == StreamType::FullDuplexBidiStream {
                answered.notified().await;
            }
        }
        match timing(&asked) {
            Some(CancelTiming::BeforeCloseSend(())) => {
                cancelled.cancel();
                pending::<()>().await;
            }
            Some(CancelTiming::AfterCloseSendMs(time)) => {
                tokio::spawn(async move {
                    sleep(Duration::from_millis(time.into())).await;
                    cancelled.cancel();
                });
            }
            Some(CancelTiming::AfterNumResponses(_)) | None => {}
        }
    }
}

fn timing(asked: &ClientCompatRequest) -> Option<CancelTiming> {
    // Without a time it is the half-close.
    asked.cancel.map(|cancel| cancel.cancel_timing.unwrap_or(CancelTiming::AfterCloseSendMs(0)))
}

fn mode(asked: &ClientCompatRequest) -> Mode {
    match asked.stream_type() {
        StreamType::Unspecified | StreamType::Unary => Mode::Unary,
        StreamType::ClientStream => Mode::ClientStreaming,
        StreamType::ServerStream => Mode::ServerStreaming,
        StreamType::HalfDuplexBidiStream | StreamType::FullDuplexBidiStream => Mode::BidiStreaming,
    }
}

//! One call: what is sent, and what comes back.

use std::{
    future::pending,
    io::{self, BufWriter, Write},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use grpc_wire::Raw;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use schema::json::{self, Names};
use serde_json::json;
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::{Request, Status, client::Grpc, codec::CompressionEncoding, metadata::MetadataMap};
use transport::Channel;

use super::{
    input::Messages,
    report::{Counted, Report},
};
use crate::{failure::Failure, options::Output, show};

/// What all calls of a run have in common.
pub(super) struct Calls<'a> {
    pub(super) method: &'a MethodDescriptor,
    pub(super) metadata: MetadataMap,
    pub(super) deadline: Option<Instant>,
    pub(super) compression: Option<CompressionEncoding>,
    pub(super) max_message: usize,
    pub(super) pace: Option<Duration>,
    pub(super) keeps_open: bool,
    pub(super) names: Names,
    /// In which format each response goes to stdout, if it does.
    pub(super) writes: Option<Output>,
    /// Whether responses are shown at the end.
    pub(super) keeps: bool,
}

/// What is to be sent: all that is known before, and what is read meanwhile.
pub(super) struct Requests {
    pub(super) first: Option<Bytes>,
    pub(super) rest: Option<Messages>,
}

impl Calls<'_> {
    /// Makes one call. The report is filled on the way, however it ends.
    pub(super) async fn call(
        &self,
        channel: timeline::Tap<Channel>,
        requests: Requests,
        attempts_before: u32,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let (fail, failed) = oneshot::channel();
        let mut request = Request::new(self.stream(requests, report.sent.clone(), fail));
        *request.metadata_mut() = self.metadata.clone();
        if attempts_before > 0 {
            request.metadata_mut().insert("grpc-previous-rpc-attempts", attempts_before.into());
        }
        request.extensions_mut().insert(grpc_wire::mode_of(self.method));
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let mut exchange = pin!(self.exchange(channel, request, report));
        let failed = async {
            match failed.await {
                Ok(failure) => failure,
                Err(_) => pending().await,
            }
        };
        tokio::select! {
            biased;
            // Dropped, the exchange is a call that is cancelled.
            failure = failed => Err(failure),
            ended = &mut exchange => ended,
        }
    }

    fn stream(
        &self,
        Requests { first, rest }: Requests,
        sent: Arc<Counted>,
        fail: oneshot::Sender<Failure>,
    ) -> impl Stream<Item = Bytes> + Send + 'static {
        let (pace, keeps_open) = (self.pace, self.keeps_open);
        async_stream::stream! {
            let mut number = 0;
            if let Some(first) = first {
                number = sent.add(first.len());
                yield first;
            }
            let mut rest = rest;
            while let Some(messages) = &mut rest {
                match messages.recv().await {
                    Some(Ok(message)) => {
                        if let Some(pace) = pace.filter(|_| number > 0) {
                            tokio::time::sleep(pace).await;
                        }
                        number = sent.add(message.len());
                        yield message;
                    }
                    Some(Err(failure)) => {
                        // The end of the stream would be the end of the input.
                        let _ = fail.send(failure.after_messages(number));
                        return pending().await;
                    }
                    None => break,
                }
            }
            if keeps_open {
                pending::<()>().await;
            }
        }
    }

    async fn exchange(
        &self,
        channel: timeline::Tap<Channel>,
        request: Request<impl Stream<Item = Bytes> + Send + 'static>,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut grpc = Grpc::new(channel)
            .max_decoding_message_size(self.max_message)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        if let Some(compression) = self.compression {
            grpc = grpc.send_compressed(compression);
        }
        grpc.ready().await?;
        let path = schema::path_of(self.method).try_into();
        let path = path.map_err(|error: http::uri::InvalidUri| Failure::answer(error.to_string()))?;
        let response = grpc.streaming(request, path, Raw).await.map_err(|status| {
            report.trailers = Some(begun.elapsed());
            report.tail = status.metadata().clone();
            self.failure(status)
        })?;
        report.headers = Some(begun.elapsed());
        report.head = response.metadata().clone();
        let mut responses = response.into_inner();
        let mut out = Out::new(self.writes);
        loop {
            let next = match poll_now(responses.message()).await {
                Poll::Ready(next) => next,
                // What is there is shown before anything is waited for.
                Poll::Pending => {
                    out.flush()?;
                    responses.message().await
                }
            };
            let message = match next {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(status) => {
                    report.trailers = Some(begun.elapsed());
                    report.tail = status.metadata().clone();
                    out.flush()?;
                    return Err(self.failure(status));
                }
            };
            let now = begun.elapsed();
            if let Some(last) = report.last.replace(now) {
                report.gaps.add(now - last);
            }
            report.first.get_or_insert(now);
            report.received.add(message.len());
            self.take(&message, report, &mut out)?;
        }
        report.trailers = Some(begun.elapsed());
        report.tail = responses.trailers().await?.unwrap_or_default();
        out.flush()?;
        Ok(())
    }

    fn take(&self, bytes: &Bytes, report: &mut Report, out: &mut Out) -> Result<(), Failure> {
        let decoded = DynamicMessage::decode(self.method.output(), bytes.clone());
        let message = decoded.map_err(|error| {
            let mut status = Status::internal(error.to_string());
            status.set_source(Arc::new(error));
            Failure::from(status)
        })?;
        if out.is_open() {
            out.write(&message, self.names, report.received.messages())?;
        }
        if self.method.is_server_streaming() {
            if self.keeps {
                report.keep(|| json::text(&message, self.names));
            }
        } else if report.received.messages() == 1 {
            report.response = Some((json::text(&message, self.names), json::readable(&message, self.names)));
        }
        Ok(())
    }

    /// With those details of a status that only its own descriptors explain.
    fn failure(&self, status: Status) -> Failure {
        let details = <tonic_types::Status as prost::Message>::decode(status.details());
        let any = self.method.parent_pool().get_message_by_name("google.protobuf.Any");
        let more = details.into_iter().flat_map(|status| status.details).filter_map(|detail| {
            let is_ours = detail.type_url.contains("/google.rpc.");
            let any = any.clone().filter(|_| !is_ours)?;
            let mut message = DynamicMessage::new(any);
            message.transcode_from(&detail).ok()?;
            Some(json::text(&message, self.names))
        });
        let more_details = more.collect();
        Failure { more_details, ..status.into() }
    }
}

/// What is there of a future now.
async fn poll_now<T>(future: impl Future<Output = T>) -> Poll<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Where responses go, one a line.
struct Out {
    to: Option<(Output, BufWriter<show::Above>)>,
    line: Vec<u8>,
}

impl Out {
    fn new(output: Option<Output>) -> Self {
        /// In bytes.
        const ROOM: usize = 64 << 10;
        let to = output.map(|output| (output, BufWriter::with_capacity(ROOM, show::Above)));
        Self { to, line: Vec::new() }
    }

    fn is_open(&self) -> bool {
        self.to.is_some()
    }

    fn write(&mut self, message: &DynamicMessage, names: Names, number: u64) -> Result<(), Failure> {
        let Some((output, out)) = &mut self.to else { return Ok(()) };
        self.line.clear();
        if *output == Output::Json {
            let head = json!({ "type": "message", "from": "server", "number": number }).to_string();
            self.line.extend_from_slice(head.trim_end_matches('}').as_bytes());
            self.line.extend_from_slice(b",\"value\":");
            json::append(&mut self.line, message, names);
            self.line.push(b'}');
        } else {
            json::append(&mut self.line, message, names);
        }
        self.line.push(b'\n');
        out.write_all(&self.line).map_err(|error| Failure::unwritten(&error))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.to.as_mut().map_or(Ok(()), |(_, out)| out.flush());
        flushed.map_err(|error: io::Error| Failure::unwritten(&error))
    }
}

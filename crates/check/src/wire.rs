//! Calls as they appear on the wire.
//!
//! A gRPC library hides details from its user: it treats a reset as an end, reconnects
//! silently, and maps many failures to one code. A check needs to know what really
//! arrived.

use std::{
    future,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use grpc_wire::limits;
use h2::{
    Ping, PingPong, RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use prost::Message;
use tokio::{
    net::TcpStream,
    sync::{Mutex, oneshot},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};
use transport::{CallError, ConnectError, OutgoingMetadata, Page, Stream, Tls, TlsError, USER_AGENT};

use crate::{
    evidence::{Progress, Seen, Tap},
    wire_error::WireError,
};

/// How long a peer may take to send its first bytes.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// The longest message that is accepted from a peer.
const LONGEST: usize = 32 << 20;

/// One HTTP/2 connection. Dropping it closes it.
pub(crate) struct Wire {
    send: SendRequest<Bytes>,
    pings: Mutex<Option<PingPong>>,
    server: Uri,
    metadata: Arc<OutgoingMetadata>,
    pub(crate) seen: Arc<Seen>,
    _driver: AbortOnDropHandle<()>,
}

impl Wire {
    /// Starts HTTP/2 on a socket, and waits for the first bytes of the peer.
    pub(crate) async fn on(
        socket: TcpStream,
        tls: Option<Tls>,
        server: &Uri,
        metadata: &Arc<OutgoingMetadata>,
        seen: Arc<Seen>,
    ) -> Result<Self, WireError> {
        let (hear, heard) = oneshot::channel();
        let opened = timeout(FIRST_WORD, Stream::open(socket, tls, hear)).await;
        let opened = opened.map_err(|_| WireError::Mute(FIRST_WORD))?;
        let stream = opened.map_err(CallError::from)?;
        Self::over(stream, heard, server, metadata, seen).await
    }

    /// The same, on a stream whose TLS handshake, if any, is done.
    pub(crate) async fn over(
        stream: Stream<TcpStream>,
        heard: oneshot::Receiver<Result<(), TlsError>>,
        server: &Uri,
        metadata: &Arc<OutgoingMetadata>,
        seen: Arc<Seen>,
    ) -> Result<Self, WireError> {
        /// How often to read the TCP acknowledgements, which wake no task.
        const LOOK: Duration = Duration::from_millis(100);
        let mut builder = Builder::new();
        builder
            .initial_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .max_frame_size(limits::FRAME_SIZE)
            .max_header_list_size(64 << 10)
            .enable_push(false);
        let (send, mut connection) = builder.handshake(Tap::on(stream, seen.clone())).await?;
        let pings = Mutex::new(connection.ping_pong());
        // Each call of the connection learns how it ended.
        let driver = tokio::spawn(async move { while timeout(LOOK, &mut connection).await.is_err() {} });
        let driver = AbortOnDropHandle::new(driver);
        match timeout(FIRST_WORD, heard).await {
            Err(_) => return Err(WireError::Mute(FIRST_WORD)),
            Ok(Ok(Err(error))) => return Err(CallError::from(ConnectError::from(error)).into()),
            Ok(_) => {}
        }
        // `seen` is updated a moment after `heard`.
        while seen.is_silent() {
            if seen.ended().is_some() {
                return Err(WireError::Closed);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Self { send, pings, server: server.clone(), metadata: metadata.clone(), seen, _driver: driver })
    }

    /// How long the next hop takes to answer a PING.
    pub(crate) async fn ping(&self) -> Result<Duration, WireError> {
        let begun = Instant::now();
        let mut pings = self.pings.lock().await;
        let pings = pings.as_mut().ok_or_else(|| WireError::Broken("no PING can be sent".to_owned()))?;
        match pings.ping(Ping::opaque()).await {
            Ok(_) => Ok(begun.elapsed()),
            Err(error) => Err(WireError::of(error, &self.seen, None)),
        }
    }

    /// Begins a call. When the peer's limit of concurrent streams is reached, h2 holds
    /// the call back until another one ends.
    pub(crate) async fn call<Q: Message, R: Message + Default>(
        &self,
        method: &str,
        metadata: HeaderMap,
    ) -> Result<Call<Q, R>, WireError> {
        let authority = self.server.authority().map_or("", |authority| authority.as_str());
        self.call_by(Method::POST, authority, method, metadata).await
    }

    /// The same, with another HTTP method or another name of the server.
    pub(crate) async fn call_by<Q: Message, R: Message + Default>(
        &self,
        verb: Method,
        authority: &str,
        method: &str,
        metadata: HeaderMap,
    ) -> Result<Call<Q, R>, WireError> {
        let uri = Uri::builder()
            .scheme(self.server.scheme_str().unwrap_or("http"))
            .authority(authority)
            .path_and_query(method)
            .build();
        let uri = uri.map_err(|error| WireError::Malformed(error.to_string()))?;
        let mut request = Request::post(uri).version(http::Version::HTTP_2).body(()).unwrap_or_default();
        *request.method_mut() = verb;
        let headers = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.extend(metadata);
        self.metadata.identify(&mut request);
        let begun = Instant::now();
        let lost = |error| WireError::of(error, &self.seen, None);
        let mut send = self.send.clone().ready().await.map_err(lost)?;
        let (response, send) = send.send_request(request, false).map_err(lost)?;
        let stream = response.stream_id().as_u32();
        self.seen.call(stream, method);
        Ok(Call {
            begun,
            send,
            answer: Answer {
                stream,
                seen: self.seen.clone(),
                response: Some(response),
                body: None,
                head: HeaderMap::new(),
                is_only_head: false,
                buffer: BytesMut::new(),
                unread: 0,
                lost: None,
            },
            messages: PhantomData,
        })
    }

    /// Makes a unary call, whose status has to be OK.
    pub(crate) async fn unary<R: Message + Default>(
        &self,
        method: &str,
        metadata: HeaderMap,
        request: &impl Message,
    ) -> Result<Unary<R>, WireError> {
        let mut call = self.call::<_, R>(method, metadata).await?;
        call.ask(request).await;
        let message = call.next().await?;
        let (status, trailers) = call.end().await?;
        if status.code() != Code::Ok {
            return Err(WireError::Status(Box::new(status)));
        }
        let message = message.ok_or_else(|| WireError::Malformed("OK without a response".to_owned()))?;
        Ok(Unary { message, head: call.answer.head, trailers })
    }
}

/// The response of a unary call.
pub(crate) struct Unary<R> {
    pub(crate) message: R,
    pub(crate) head: HeaderMap,
    pub(crate) trailers: HeaderMap,
}

/// A call in any of the four modes. Dropping it before its end cancels it.
pub(crate) struct Call<Q, R> {
    pub(crate) begun: Instant,
    send: SendStream<Bytes>,
    answer: Answer,
    messages: PhantomData<fn(Q) -> R>,
}

/// The response, as far as it has arrived.
struct Answer {
    stream: u32,
    seen: Arc<Seen>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    head: HeaderMap,
    /// Whether the head ended the stream.
    is_only_head: bool,
    buffer: BytesMut,
    /// How many bytes of the buffer still count against the flow-control window.
    unread: usize,
    /// Why no more will arrive.
    lost: Option<WireError>,
}

/// All methods here are safe to cancel and to call again.
impl Answer {
    fn lost(&self, error: h2::Error) -> WireError {
        WireError::of(error, &self.seen, Some(self.stream))
    }

    async fn head(&mut self) -> Result<&HeaderMap, WireError> {
        if let Some(response) = &mut self.response {
            let response = response.await;
            self.response = None;
            let (head, body) = response.map_err(|error| self.lost(error))?.into_parts();
            self.is_only_head = body.is_end_stream();
            self.seen.head(self.stream, head.status, &head.headers);
            self.lost = Page::of(head.status, &head.headers).map(WireError::Http);
            (self.head, self.body) = (head.headers, Some(body));
        }
        self.lost.clone().map_or(Ok(&self.head), Err)
    }

    /// Waits for data. Returns false if there is none; the trailers may have arrived
    /// instead.
    async fn more(&mut self) -> Result<bool, WireError> {
        self.head().await?;
        let Some(body) = &mut self.body else { return Ok(false) };
        let Some(data) = body.data().await else { return Ok(false) };
        let data = data.map_err(|error| WireError::of(error, &self.seen, Some(self.stream)))?;
        self.unread += data.len();
        self.buffer.extend_from_slice(&data);
        Ok(true)
    }

    /// Waits for the whole response, as far as the window allows.
    async fn whole(&mut self) -> Result<(), WireError> {
        while self.more().await? {}
        Ok(())
    }

    fn release(&mut self) -> Result<(), WireError> {
        let Some(body) = &mut self.body else { return Ok(()) };
        let released = body.flow_control().release_capacity(std::mem::take(&mut self.unread));
        released.map_err(|error| self.lost(error))
    }
}

impl<Q: Message, R: Message + Default> Call<Q, R> {
    /// Returns when the connection has taken the whole message, as far as the windows
    /// allow, or when the response has arrived: a server that has answered may stop
    /// reading.
    pub(crate) async fn send(&mut self, message: &Q) -> Result<(), WireError> {
        let mut frame = BytesMut::with_capacity(5 + message.encoded_len());
        frame.put_u8(0);
        frame.put_u32(message.encoded_len() as u32);
        message.encode(&mut frame).map_err(|error| WireError::Malformed(error.to_string()))?;
        let mut frame = frame.freeze();
        while frame.has_remaining() {
            self.send.reserve_capacity(frame.len());
            let capacity = tokio::select! {
                biased;
                capacity = future::poll_fn(|cx| self.send.poll_capacity(cx)) => {
                    capacity.transpose().map_err(|error| self.answer.lost(error))?
                }
                whole = self.answer.whole() => {
                    whole?;
                    None
                }
            };
            let Some(capacity) = capacity else {
                return Err(WireError::Broken("the stream takes nothing more".to_owned()));
            };
            let part = frame.split_to(capacity.min(frame.len()));
            self.send.send_data(part, false).map_err(|error| self.answer.lost(error))?;
        }
        Ok(())
    }

    pub(crate) fn half_close(&mut self) -> Result<(), WireError> {
        self.send.send_data(Bytes::new(), true).map_err(|error| self.answer.lost(error))
    }
}

impl<Q, R: Message + Default> Call<Q, R> {
    /// The head of the response.
    pub(crate) async fn head(&mut self) -> Result<&HeaderMap, WireError> {
        self.answer.head().await
    }

    /// The next message, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<R>, WireError> {
        loop {
            self.answer.release()?;
            let buffer = &mut self.answer.buffer;
            if let [flag, a, b, c, d, rest @ ..] = &buffer[..] {
                let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                if *flag != 0 || length > LONGEST {
                    return Err(WireError::Malformed(
                        "the answer has bytes in it that are not a gRPC message".to_owned(),
                    ));
                }
                if rest.len() >= length {
                    buffer.advance(5);
                    let message = buffer.split_to(length).freeze();
                    let message =
                        R::decode(message).map_err(|error| WireError::Malformed(error.to_string()))?;
                    return Ok(Some(message));
                }
            }
            if !self.answer.more().await? {
                return match self.answer.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(WireError::Malformed("it ended within a message".to_owned())),
                };
            }
        }
    }

    /// Returns the status and all trailers. Skips messages that were not read.
    pub(crate) async fn end(&mut self) -> Result<(Status, HeaderMap), WireError> {
        while self.next().await?.is_some() {}
        let answer = &mut self.answer;
        let in_head = Status::from_header_map(&answer.head);
        let trailers = match &mut answer.body {
            _ if answer.is_only_head => answer.head.clone(),
            Some(body) => match body.trailers().await {
                Ok(trailers) => trailers.unwrap_or_default(),
                Err(error) => return Err(answer.lost(error)),
            },
            None => HeaderMap::new(),
        };
        match (Status::from_header_map(&trailers), in_head) {
            (Some(status), _) => {
                answer.seen.grpc_status(answer.stream, status.code());
                Ok((status, trailers))
            }
            (None, Some(status)) => Err(WireError::StatusInHead(Box::new(status))),
            (None, None) => Err(WireError::NoStatus),
        }
    }

    /// Ends the call, whose status has to be OK.
    pub(crate) async fn end_well(&mut self) -> Result<HeaderMap, WireError> {
        let (status, trailers) = self.end().await?;
        match status.code() {
            Code::Ok => Ok(trailers),
            _ => Err(WireError::Status(Box::new(status))),
        }
    }

    /// Whether the response was only a head with the status in it.
    pub(crate) fn is_trailers_only(&self) -> bool {
        self.answer.is_only_head
    }

    /// The bytes that have passed on the connection.
    pub(crate) fn progress(&self) -> Progress {
        self.answer.seen.progress()
    }
}

impl<Q: Message, R: Message + Default> Call<Q, R> {
    /// Sends the only request. The server may answer before it has the request, so an
    /// error here is left to the response.
    pub(crate) async fn ask(&mut self, request: &Q) {
        if self.send(request).await.is_ok() {
            let _ = self.half_close();
        }
    }
}

/// Waits for `what` for at most `time`.
pub(crate) async fn within<T>(
    time: Duration,
    what: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    timeout(time, what).await.unwrap_or(Err(WireError::Silent(time)))
}

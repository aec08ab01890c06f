//! Calls as they are on the wire.
//!
//! A gRPC library does what is best for its user: it takes a reset for an end,
//! opens another connection without a word, and has one code for much that can
//! happen. A check wants to know what really came.

use std::{
    fmt, future,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use grpc_wire::limits;
use h2::{
    Ping, PingPong, Reason, RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use prost::Message;
use tokio::{
    net::TcpStream,
    sync::{Mutex, oneshot},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use transport::{CallError, ConnectError, OutgoingMetadata, Stream, Tls, USER_AGENT};

use super::remedies;

/// How long a peer has to say its first word.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// The longest message that is taken from a peer.
const LONGEST: usize = 32 << 20;

/// Why a call has no answer that counts.
#[derive(Debug, Clone)]
pub(super) enum Lost {
    /// There is no connection.
    Unconnected(String, &'static str, &'static str),
    /// RST_STREAM, with its reason.
    Reset(Reason),
    /// The connection ended with GOAWAY; with `NO_ERROR` it may be made again.
    GoAway(Reason),
    /// The connection ended without a word, or what came was no HTTP/2.
    Broken(String),
    /// An answer that is none of gRPC.
    Http { status: StatusCode, content_type: String },
    /// It ended without `grpc-status`.
    NoStatus,
    /// What came cannot be read.
    Malformed(String),
    /// A status where there should have been none, or another one.
    Status(Box<Status>),
    /// Nothing came in this time.
    Silent(Duration),
}

impl Lost {
    /// What most likely happened, and what to do.
    pub(super) fn advice(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unconnected(_, cause, remedy) => (cause, remedy),
            Self::Reset(Reason::REFUSED_STREAM) => {
                ("the server or something before it refuses streams", remedies::STREAMS)
            }
            Self::Reset(_) => ("something on the path ended the call without a status", remedies::RESET),
            Self::GoAway(Reason::ENHANCE_YOUR_CALM) => {
                ("the peer takes what this client does for an attack", remedies::CALM)
            }
            Self::GoAway(_) | Self::Broken(_) => {
                ("something on the path ended the connection", remedies::RESET)
            }
            Self::Http { status, .. } => match *status {
                StatusCode::PAYLOAD_TOO_LARGE => ("a proxy limits the size of a request", remedies::BODY),
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::BAD_REQUEST => {
                    ("a proxy does not take the head of the request", remedies::HEADERS)
                }
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => {
                    ("a proxy does not reach the server, or not by HTTP/2", remedies::UPSTREAM)
                }
                StatusCode::REQUEST_TIMEOUT => {
                    ("a proxy waits for the end of the request before it passes it on", remedies::BUFFERING)
                }
                StatusCode::GATEWAY_TIMEOUT => ("a proxy waits no longer for the server", remedies::IDLE),
                StatusCode::NOT_FOUND => (
                    "what answers knows no such path",
                    "route the services' paths (`/PACKAGE.SERVICE/`) to the server: a `location` with \
                     `grpc_pass` in nginx, a route that matches `prefix: /` in Envoy",
                ),
                _ => ("what answers is no gRPC server, or a proxy in its place", remedies::UPSTREAM),
            },
            Self::NoStatus => ("something on the path drops the trailers", remedies::TRAILERS),
            Self::Malformed(_) => ("something on the path changes what is sent", remedies::UPSTREAM),
            Self::Status(_) if self.needs_http2() => {
                ("something on the path speaks HTTP/1.1 to the server", remedies::HTTP2)
            }
            Self::Status(status) => match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => (
                    "the server wants to know who calls",
                    "set FOURMODES_TOKEN to a token that it knows, or --token-file to a file with it",
                ),
                Code::Unavailable => {
                    ("the server, or a proxy in its place, has no answer", remedies::UPSTREAM)
                }
                Code::DeadlineExceeded => {
                    ("a deadline has passed that this client did not set", remedies::DEADLINE)
                }
                _ => (
                    "the server, or a proxy in its place, refuses the call",
                    "look at the log of the server: a call that is not there was refused on the way",
                ),
            },
            Self::Silent(_) => {
                ("something on the path holds the call back, or swallows it", remedies::BUFFERING)
            }
        }
    }

    /// Whether it is what our server says of a call that came by HTTP/1.1.
    pub(super) fn needs_http2(&self) -> bool {
        let info = self.status().and_then(StatusExt::get_details_error_info);
        info.is_some_and(|info| info.reason == "HTTP2_NEEDED")
    }

    /// The status, if it is one.
    pub(super) fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unconnected(what, ..) => f.write_str(what),
            Self::Reset(reason) => write!(f, "reset with {}", reason_name(*reason)),
            Self::GoAway(reason) => write!(f, "the connection ended with GOAWAY {}", reason_name(*reason)),
            Self::Broken(what) => write!(f, "the connection was lost: {what}"),
            Self::Http { status, content_type } if content_type.is_empty() => write!(f, "HTTP {status}"),
            Self::Http { status, content_type } => write!(f, "HTTP {status} with {content_type}"),
            Self::NoStatus => f.write_str("ended without a grpc-status"),
            Self::Malformed(what) => f.write_str(what),
            Self::Status(status) if status.message().is_empty() => {
                f.write_str(grpc_wire::code_name(status.code()))
            }
            Self::Status(status) => {
                write!(f, "{}: {}", grpc_wire::code_name(status.code()), status.message())
            }
            Self::Silent(time) => write!(f, "nothing for {}", humantime::format_duration(*time)),
        }
    }
}

impl From<h2::Error> for Lost {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_reset() => Self::Reset(reason),
            Some(reason) if error.is_go_away() && error.is_remote() => Self::GoAway(reason),
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl From<CallError> for Lost {
    fn from(error: CallError) -> Self {
        let (cause, next) = error.advice().unwrap_or_default();
        Self::Unconnected(error.message, cause, next)
    }
}

/// As in the RFC.
pub(super) fn reason_name(reason: Reason) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let number = u32::from(reason);
    NAMES.get(number as usize).map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// One connection by HTTP/2, closed when it is dropped.
pub(super) struct Wire {
    send: SendRequest<Bytes>,
    pings: Mutex<Option<PingPong>>,
    server: Uri,
    metadata: Arc<OutgoingMetadata>,
    _driver: AbortOnDropHandle<()>,
}

impl Wire {
    /// Speaks HTTP/2 on a socket, and waits for the first word of the peer.
    pub(super) async fn on(
        socket: TcpStream,
        tls: Option<Tls>,
        server: &Uri,
        metadata: &Arc<OutgoingMetadata>,
    ) -> Result<Self, Lost> {
        let (hear, heard) = oneshot::channel();
        let opened = timeout(FIRST_WORD, Stream::open(socket, tls, hear)).await;
        let opened = opened.map_err(|_| Lost::Silent(FIRST_WORD))?;
        let stream = opened.map_err(CallError::from)?;
        let mut builder = Builder::new();
        builder
            .initial_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .max_frame_size(limits::FRAME_SIZE)
            .max_header_list_size(64 << 10)
            .enable_push(false);
        let (send, mut connection) = builder.handshake(stream).await?;
        let pings = Mutex::new(connection.ping_pong());
        // How it ended is told to each of its calls.
        let driver = tokio::spawn(async move { drop(connection.await) });
        let driver = AbortOnDropHandle::new(driver);
        match timeout(FIRST_WORD, heard).await {
            Err(_) => return Err(Lost::Silent(FIRST_WORD)),
            Ok(Ok(Err(error))) => return Err(CallError::from(ConnectError::from(error)).into()),
            Ok(_) => {}
        }
        Ok(Self { send, pings, server: server.clone(), metadata: metadata.clone(), _driver: driver })
    }

    /// How long the next hop takes to answer a PING.
    pub(super) async fn ping(&self) -> Result<Duration, Lost> {
        let begun = Instant::now();
        let mut pings = self.pings.lock().await;
        let pings = pings.as_mut().ok_or_else(|| Lost::Broken("no PING can be sent".to_owned()))?;
        pings.ping(Ping::opaque()).await?;
        Ok(begun.elapsed())
    }

    /// Begins a call. Where there are as many as the peer allows, h2 keeps it
    /// back until one has ended.
    pub(super) async fn call<Q: Message, R: Message + Default>(
        &self,
        method: &str,
        metadata: HeaderMap,
    ) -> Result<Call<Q, R>, Lost> {
        let uri = Uri::builder()
            .scheme(self.server.scheme_str().unwrap_or("http"))
            .authority(self.server.authority().map_or("", |authority| authority.as_str()))
            .path_and_query(method)
            .build();
        let uri = uri.map_err(|error| Lost::Malformed(error.to_string()))?;
        let mut request = Request::post(uri).version(http::Version::HTTP_2).body(()).unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.extend(metadata);
        self.metadata.identify(&mut request);
        let begun = Instant::now();
        let mut send = self.send.clone().ready().await?;
        let (response, send) = send.send_request(request, false)?;
        Ok(Call {
            begun,
            send,
            response: Some(response),
            body: None,
            head: HeaderMap::new(),
            buffer: BytesMut::new(),
            messages: PhantomData,
        })
    }

    /// One request, one response, and OK.
    pub(super) async fn unary<R: Message + Default>(
        &self,
        method: &str,
        metadata: HeaderMap,
        request: &impl Message,
    ) -> Result<Unary<R>, Lost> {
        let mut call = self.call::<_, R>(method, metadata).await?;
        call.ask(request).await;
        let message = call.next().await?;
        let (status, trailers) = call.end().await?;
        if status.code() != Code::Ok {
            return Err(Lost::Status(Box::new(status)));
        }
        let message = message.ok_or_else(|| Lost::Malformed("OK without a response".to_owned()))?;
        Ok(Unary { message, head: call.head, trailers })
    }
}

/// What came in answer to a unary call.
pub(super) struct Unary<R> {
    pub(super) message: R,
    pub(super) head: HeaderMap,
    pub(super) trailers: HeaderMap,
}

/// A call in any of the four modes. Dropped before its end it is cancelled.
pub(super) struct Call<Q, R> {
    pub(super) begun: Instant,
    send: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    head: HeaderMap,
    buffer: BytesMut,
    messages: PhantomData<fn(Q) -> R>,
}

impl<Q: Message, R: Message + Default> Call<Q, R> {
    /// Returns when all of it was given to the connection, as far as the windows
    /// allow it.
    pub(super) async fn send(&mut self, message: &Q) -> Result<(), Lost> {
        let mut frame = BytesMut::with_capacity(5 + message.encoded_len());
        frame.put_u8(0);
        frame.put_u32(message.encoded_len() as u32);
        message.encode(&mut frame).map_err(|error| Lost::Malformed(error.to_string()))?;
        let mut frame = frame.freeze();
        while frame.has_remaining() {
            self.send.reserve_capacity(frame.len());
            match future::poll_fn(|cx| self.send.poll_capacity(cx)).await {
                Some(Ok(capacity)) => {
                    let part = frame.split_to(capacity.min(frame.len()));
                    self.send.send_data(part, false)?;
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Lost::Broken("the stream takes nothing more".to_owned())),
            }
        }
        Ok(())
    }

    pub(super) fn half_close(&mut self) -> Result<(), Lost> {
        Ok(self.send.send_data(Bytes::new(), true)?)
    }
}

impl<Q, R: Message + Default> Call<Q, R> {
    /// The head of the response.
    pub(super) async fn head(&mut self) -> Result<&HeaderMap, Lost> {
        if let Some(response) = &mut self.response {
            let (head, body) = response.await?.into_parts();
            self.response = None;
            let content_type = head.headers.get(header::CONTENT_TYPE);
            let content_type = String::from_utf8_lossy(content_type.map_or(b"", HeaderValue::as_bytes));
            // A status counts, whatever came with it.
            let is_grpc = content_type.starts_with("application/grpc") && head.status == StatusCode::OK;
            if !is_grpc && !head.headers.contains_key(Status::GRPC_STATUS) {
                return Err(Lost::Http { status: head.status, content_type: content_type.into_owned() });
            }
            self.head = head.headers;
            self.body = Some(body);
        }
        Ok(&self.head)
    }

    /// The next message; none when there is no more.
    pub(super) async fn next(&mut self) -> Result<Option<R>, Lost> {
        self.head().await?;
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            if let [flag, a, b, c, d, rest @ ..] = &self.buffer[..] {
                let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                if *flag != 0 || length > LONGEST {
                    return Err(Lost::Malformed("what came is no message of gRPC".to_owned()));
                }
                if rest.len() >= length {
                    self.buffer.advance(5);
                    let message = self.buffer.split_to(length).freeze();
                    let message = R::decode(message).map_err(|error| Lost::Malformed(error.to_string()))?;
                    return Ok(Some(message));
                }
            }
            match body.data().await {
                Some(data) => {
                    let data = data?;
                    body.flow_control().release_capacity(data.len())?;
                    self.buffer.extend_from_slice(&data);
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Lost::Malformed("it ended within a message".to_owned())),
            }
        }
    }

    /// The status with all of the trailers, whatever was not read before it.
    pub(super) async fn end(&mut self) -> Result<(Status, HeaderMap), Lost> {
        while self.next().await?.is_some() {}
        if let Some(status) = Status::from_header_map(&self.head) {
            return Ok((status, self.head.clone()));
        }
        let trailers = match &mut self.body {
            Some(body) => body.trailers().await?.unwrap_or_default(),
            None => HeaderMap::new(),
        };
        let status = Status::from_header_map(&trailers).ok_or(Lost::NoStatus)?;
        Ok((status, trailers))
    }

    /// The end, which has to be OK.
    pub(super) async fn end_well(&mut self) -> Result<HeaderMap, Lost> {
        let (status, trailers) = self.end().await?;
        match status.code() {
            Code::Ok => Ok(trailers),
            _ => Err(Lost::Status(Box::new(status))),
        }
    }

    /// Whether the status came in the head, with nothing else.
    pub(super) fn is_trailers_only(&self) -> bool {
        self.head.contains_key(Status::GRPC_STATUS)
    }
}

impl<Q: Message, R: Message + Default> Call<Q, R> {
    /// Sends the only request. A server may have answered before it has it, so
    /// what became of it is for the answer to tell.
    pub(super) async fn ask(&mut self, request: &Q) {
        if self.send(request).await.is_ok() {
            let _ = self.half_close();
        }
    }
}

/// Waits for `what`, but no longer than `time`.
pub(super) async fn within<T>(
    time: Duration,
    what: impl Future<Output = Result<T, Lost>>,
) -> Result<T, Lost> {
    timeout(time, what).await.unwrap_or(Err(Lost::Silent(time)))
}

//! Calls as they are on the wire.
//!
//! A gRPC library does what is best for its user: it takes a reset for an end,
//! opens another connection without a word, and has one code for much that can
//! happen. A check wants to know what really came.

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
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use prost::Message;
use tokio::{
    net::TcpStream,
    sync::{Mutex, oneshot},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};
use transport::{CallError, ConnectError, OutgoingMetadata, Page, Stream, Tls, USER_AGENT};

use crate::wire_error::WireError;

/// How long a peer has to say its first word.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// The longest message that is taken from a peer.
const LONGEST: usize = 32 << 20;

/// One connection by HTTP/2, closed when it is dropped.
pub(crate) struct Wire {
    send: SendRequest<Bytes>,
    pings: Mutex<Option<PingPong>>,
    server: Uri,
    metadata: Arc<OutgoingMetadata>,
    _driver: AbortOnDropHandle<()>,
}

impl Wire {
    /// Speaks HTTP/2 on a socket, and waits for the first word of the peer.
    pub(crate) async fn on(
        socket: TcpStream,
        tls: Option<Tls>,
        server: &Uri,
        metadata: &Arc<OutgoingMetadata>,
    ) -> Result<Self, WireError> {
        let (hear, heard) = oneshot::channel();
        let opened = timeout(FIRST_WORD, Stream::open(socket, tls, hear)).await;
        let opened = opened.map_err(|_| WireError::Silent(FIRST_WORD))?;
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
            Err(_) => return Err(WireError::Silent(FIRST_WORD)),
            Ok(Ok(Err(error))) => return Err(CallError::from(ConnectError::from(error)).into()),
            Ok(_) => {}
        }
        Ok(Self { send, pings, server: server.clone(), metadata: metadata.clone(), _driver: driver })
    }

    /// How long the next hop takes to answer a PING.
    pub(crate) async fn ping(&self) -> Result<Duration, WireError> {
        let begun = Instant::now();
        let mut pings = self.pings.lock().await;
        let pings = pings.as_mut().ok_or_else(|| WireError::Broken("no PING can be sent".to_owned()))?;
        pings.ping(Ping::opaque()).await?;
        Ok(begun.elapsed())
    }

    /// Begins a call. Where there are as many as the peer allows, h2 keeps it
    /// back until one has ended.
    pub(crate) async fn call<Q: Message, R: Message + Default>(
        &self,
        method: &str,
        metadata: HeaderMap,
    ) -> Result<Call<Q, R>, WireError> {
        let uri = Uri::builder()
            .scheme(self.server.scheme_str().unwrap_or("http"))
            .authority(self.server.authority().map_or("", |authority| authority.as_str()))
            .path_and_query(method)
            .build();
        let uri = uri.map_err(|error| WireError::Malformed(error.to_string()))?;
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
            answer: Answer {
                response: Some(response),
                body: None,
                head: HeaderMap::new(),
                buffer: BytesMut::new(),
                unread: 0,
                lost: None,
            },
            messages: PhantomData,
        })
    }

    /// One request, one response, and OK.
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

/// What came in answer to a unary call.
pub(crate) struct Unary<R> {
    pub(crate) message: R,
    pub(crate) head: HeaderMap,
    pub(crate) trailers: HeaderMap,
}

/// A call in any of the four modes. Dropped before its end it is cancelled.
pub(crate) struct Call<Q, R> {
    pub(crate) begun: Instant,
    send: SendStream<Bytes>,
    answer: Answer,
    messages: PhantomData<fn(Q) -> R>,
}

/// What has come back.
struct Answer {
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    head: HeaderMap,
    buffer: BytesMut,
    /// How much of the buffer still counts against the window.
    unread: usize,
    /// Why there is no more.
    lost: Option<WireError>,
}

/// Each may be cancelled and called again.
impl Answer {
    async fn head(&mut self) -> Result<&HeaderMap, WireError> {
        if let Some(response) = &mut self.response {
            let response = response.await;
            self.response = None;
            let (head, body) = response?.into_parts();
            self.lost = Page::of(head.status, &head.headers).map(WireError::Http);
            (self.head, self.body) = (head.headers, Some(body));
        }
        self.lost.clone().map_or(Ok(&self.head), Err)
    }

    /// Waits for data. Whether there was some: the trailers may be there otherwise.
    async fn more(&mut self) -> Result<bool, WireError> {
        self.head().await?;
        let Some(body) = &mut self.body else { return Ok(false) };
        let Some(data) = body.data().await else { return Ok(false) };
        let data = data?;
        self.unread += data.len();
        self.buffer.extend_from_slice(&data);
        Ok(true)
    }

    /// Waits for all of it, as far as the window allows it.
    async fn whole(&mut self) -> Result<(), WireError> {
        while self.more().await? {}
        Ok(())
    }

    fn release(&mut self) -> Result<(), WireError> {
        match &mut self.body {
            Some(body) => Ok(body.flow_control().release_capacity(std::mem::take(&mut self.unread))?),
            None => Ok(()),
        }
    }
}

impl<Q: Message, R: Message + Default> Call<Q, R> {
    /// Returns when all of it was given to the connection, as far as the windows
    /// allow it, or when the answer is there: whoever has answered may read no more.
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
                capacity = future::poll_fn(|cx| self.send.poll_capacity(cx)) => capacity.transpose()?,
                whole = self.answer.whole() => {
                    whole?;
                    None
                }
            };
            let Some(capacity) = capacity else {
                return Err(WireError::Broken("the stream takes nothing more".to_owned()));
            };
            let part = frame.split_to(capacity.min(frame.len()));
            self.send.send_data(part, false)?;
        }
        Ok(())
    }

    pub(crate) fn half_close(&mut self) -> Result<(), WireError> {
        Ok(self.send.send_data(Bytes::new(), true)?)
    }
}

impl<Q, R: Message + Default> Call<Q, R> {
    /// The head of the response.
    pub(crate) async fn head(&mut self) -> Result<&HeaderMap, WireError> {
        self.answer.head().await
    }

    /// The next message; none when there is no more.
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

    /// The status with all of the trailers, whatever was not read before it.
    pub(crate) async fn end(&mut self) -> Result<(Status, HeaderMap), WireError> {
        while self.next().await?.is_some() {}
        if let Some(status) = Status::from_header_map(&self.answer.head) {
            return Ok((status, self.answer.head.clone()));
        }
        let trailers = match &mut self.answer.body {
            Some(body) => body.trailers().await?.unwrap_or_default(),
            None => HeaderMap::new(),
        };
        let status = Status::from_header_map(&trailers).ok_or(WireError::NoStatus)?;
        Ok((status, trailers))
    }

    /// The end, which has to be OK.
    pub(crate) async fn end_well(&mut self) -> Result<HeaderMap, WireError> {
        let (status, trailers) = self.end().await?;
        match status.code() {
            Code::Ok => Ok(trailers),
            _ => Err(WireError::Status(Box::new(status))),
        }
    }

    /// Whether the status came in the head, with nothing else.
    pub(crate) fn is_trailers_only(&self) -> bool {
        self.answer.head.contains_key(Status::GRPC_STATUS)
    }
}

impl<Q: Message, R: Message + Default> Call<Q, R> {
    /// Sends the only request. A server may have answered before it has it, so
    /// what became of it is for the answer to tell.
    pub(crate) async fn ask(&mut self, request: &Q) {
        if self.send(request).await.is_ok() {
            let _ = self.half_close();
        }
    }
}

/// Waits for `what`, but no longer than `time`.
pub(crate) async fn within<T>(
    time: Duration,
    what: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    timeout(time, what).await.unwrap_or(Err(WireError::Silent(time)))
}

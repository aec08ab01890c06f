//! The frames on the connections of a check: which side ended a call or connection, and
//! how.
//!
//! An HTTP/2 library only reports that a connection broke. The frames show whether the
//! cause was a frame of the peer, a limit of the library or a socket that was closed
//! without GOAWAY.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use grpc_wire::{
    heads::{Heads, Part},
    http2_error,
};
use h2::Reason;
use http::{HeaderMap, StatusCode};
use keepalive::unacknowledged;
use serde::{Serialize, Serializer};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use transport::Stream;

use crate::remedies::Products;

/// How many connections are kept, and how many calls of each.
const KEPT: usize = 4;

/// The connections of one check.
#[derive(Debug, Default)]
pub(crate) struct Evidence(Mutex<VecDeque<Arc<Seen>>>);

impl Evidence {
    pub(crate) fn connection(&self, peer: Option<SocketAddr>, products: &Products) -> Arc<Seen> {
        let connection = Connection { peer, begun: Some(Instant::now()), ..Connection::default() };
        let seen = Arc::new(Seen(Mutex::new(connection), products.clone()));
        let mut all = lock(&self.0);
        all.push_back(seen.clone());
        forget(&mut all, |seen| seen.lock().is_dull());
        seen
    }

    /// The bytes of calls so far.
    pub(crate) fn progress(&self) -> Progress {
        lock(&self.0).iter().map(|seen| seen.progress()).fold(Progress::default(), |a, b| Progress {
            sent: a.sent + b.sent,
            received: a.received + b.received,
            under_way: a.under_way + b.under_way,
        })
    }

    /// The evidence as it appears in `--output json`.
    pub(crate) fn to_json(&self) -> Value {
        lock(&self.0).iter().map(|seen| serde_json::to_value(&*seen.lock()).unwrap_or_default()).collect()
    }
}

/// The bytes of HEADERS and DATA frames.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes that the next hop has acknowledged.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Bytes that were sent, and that the next hop has not acknowledged.
    pub(crate) under_way: u64,
}

/// One connection and the products that identified themselves on it.
#[derive(Debug)]
pub(crate) struct Seen(Mutex<Connection>, Products);

#[derive(Debug, Default, Serialize)]
struct Connection {
    peer: Option<SocketAddr>,
    #[serde(skip)]
    begun: Option<Instant>,
    sent: u64,
    /// The value of `sent` at the last frame of a call.
    #[serde(skip)]
    sent_for_calls: u64,
    #[serde(skip)]
    acknowledged: u64,
    received: u64,
    #[serde(skip)]
    received_for_calls: u64,
    #[serde(skip)]
    empty_data: u64,
    ended: Option<End>,
    calls: VecDeque<CallSeen>,
}

/// A call of a connection. Only the newest are kept.
#[derive(Debug, Default, Serialize)]
struct CallSeen {
    stream: u32,
    method: String,
    sent: u64,
    received: u64,
    http_status: Option<u16>,
    grpc_status: Option<i32>,
    ended: Option<End>,
}

/// What ended a connection or a call.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct End {
    pub(crate) by: By,
    /// The name of a frame, or `FIN` or `RST` of TCP.
    pub(crate) frame: &'static str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "name")]
    pub(crate) code: Option<Reason>,
    /// The last stream that a GOAWAY lets continue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_stream: Option<u32>,
    /// The debug data of a GOAWAY.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) debug: Option<String>,
    after_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    Peer,
    Client,
}

fn name<S: Serializer>(code: &Option<Reason>, to: S) -> Result<S::Ok, S::Error> {
    code.map(|code| http2_error(code.into())).serialize(to)
}

impl Connection {
    /// Whether there is nothing to report: it is open, and all its calls ended with OK.
    fn is_dull(&self) -> bool {
        self.ended.is_none() && self.calls.iter().all(CallSeen::is_dull)
    }

    fn end(&self, by: By, frame: &'static str) -> End {
        let after_ms = self.begun.map_or(0, |begun| begun.elapsed().as_millis() as u64);
        End { by, frame, code: None, last_stream: None, debug: None, after_ms }
    }

    fn call(&mut self, stream: u32) -> Option<&mut CallSeen> {
        self.calls.iter_mut().find(|call| call.stream == stream)
    }

    /// Records a frame. Only a short frame comes with its payload.
    fn frame(&mut self, by: By, frame: &Frame) {
        let number = |at: usize| {
            frame.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
        };
        match frame.kind {
            DATA | HEADERS if frame.flags & END_STREAM != 0 && by == By::Peer => {
                let end = self.end(by, if frame.kind == DATA { "DATA" } else { "HEADERS" });
                self.ends(frame.stream, end);
            }
            RST_STREAM => {
                let end = End { code: number(0).map(Reason::from), ..self.end(by, "RST_STREAM") };
                self.ends(frame.stream, end);
            }
            // A later GOAWAY says more than an earlier one.
            GOAWAY if by == By::Peer || self.ended.is_none() => {
                let debug = String::from_utf8_lossy(frame.payload.get(8..).unwrap_or_default()).into_owned();
                let (last_stream, code) = (number(0), number(4).map(Reason::from));
                self.ended = Some(End { code, last_stream, debug: Some(debug), ..self.end(by, "GOAWAY") });
            }
            _ => {}
        }
    }

    fn ends(&mut self, stream: u32, end: End) {
        if let Some(call) = self.call(stream) {
            call.ended.get_or_insert(end);
        }
    }

    fn closed(&mut self, frame: &'static str) {
        if self.ended.is_none() {
            self.ended = Some(self.end(By::Peer, frame));
        }
    }
}

impl CallSeen {
    fn is_dull(&self) -> bool {
        self.grpc_status == Some(0)
    }
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        lock(&self.0)
    }

    pub(crate) fn call(&self, stream: u32, method: &str) {
        let call = CallSeen { stream, method: method.to_owned(), ..CallSeen::default() };
        let mut seen = self.lock();
        seen.calls.push_back(call);
        forget(&mut seen.calls, CallSeen::is_dull);
    }

    pub(crate) fn head(&self, stream: u32, status: StatusCode, head: &HeaderMap) {
        self.1.see(status, head);
        if let Some(call) = self.lock().call(stream) {
            call.http_status = Some(status.as_u16());
        }
    }

    pub(crate) fn grpc_status(&self, stream: u32, code: tonic::Code) {
        if let Some(call) = self.lock().call(stream) {
            call.grpc_status = Some(code as i32);
        }
    }

    pub(crate) fn ended(&self) -> Option<End> {
        self.lock().ended.clone()
    }

    /// The library of this client ends the connection, and sends a GOAWAY a moment
    /// later.
    pub(crate) fn ends_here(&self, code: Reason) {
        let mut seen = self.lock();
        if seen.ended.is_none() {
            seen.ended = Some(End { code: Some(code), ..seen.end(By::Client, "GOAWAY") });
        }
    }

    /// Whether the peer has sent nothing yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.lock().received == 0
    }

    pub(crate) fn empty_data(&self) -> u64 {
        self.lock().empty_data
    }

    pub(crate) fn progress(&self) -> Progress {
        let seen = self.lock();
        let sent = seen.sent_for_calls.min(seen.acknowledged);
        Progress { sent, received: seen.received_for_calls, under_way: seen.sent_for_calls - sent }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes one entry if there are too many: the oldest dull one, or else the oldest.
fn forget<T>(all: &mut VecDeque<T>, is_dull: impl Fn(&T) -> bool) {
    if all.len() > KEPT {
        let last = all.len() - 1;
        let dull = all.iter().take(last).position(is_dull);
        all.remove(dull.unwrap_or_default());
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// The frames of one direction.
#[derive(Debug)]
struct Frames {
    by: By,
    heads: Heads,
    frame: Frame,
}

#[derive(Debug, Default)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    missing: usize,
    payload: Vec<u8>,
}

impl Frames {
    fn feed(&mut self, bytes: &[u8], seen: &mut Connection) {
        /// The longest debug data of a GOAWAY that is kept.
        const LONGEST: usize = 512;
        let Self { by, heads, frame } = self;
        let mut is_of_a_call = false;
        heads.feed(bytes, |part| {
            match part {
                Part::Head([a, b, c, kind, flags, stream @ ..]) => {
                    let missing = u32::from_be_bytes([0, a, b, c]) as usize;
                    let stream = u32::from_be_bytes(stream) & !(1 << 31);
                    *frame = Frame { kind, flags, stream, missing, payload: Vec::new() };
                }
                Part::Payload(bytes) => {
                    frame.missing -= bytes.len();
                    match frame.kind {
                        RST_STREAM | GOAWAY => {
                            let room = LONGEST.saturating_sub(frame.payload.len());
                            frame.payload.extend_from_slice(&bytes[..bytes.len().min(room)]);
                        }
                        DATA | HEADERS | CONTINUATION => {
                            let bytes = bytes.len() as u64;
                            if *by == By::Peer {
                                seen.received_for_calls += bytes;
                            }
                            if let Some(call) = seen.call(frame.stream) {
                                *(if *by == By::Peer { &mut call.received } else { &mut call.sent }) += bytes;
                            }
                        }
                        _ => {}
                    }
                }
                Part::Other(_) => return,
            }
            is_of_a_call |= matches!(frame.kind, DATA | HEADERS | CONTINUATION);
            if frame.missing == 0 {
                seen.frame(*by, frame);
            }
        });
        if *by == By::Client && is_of_a_call {
            seen.sent_for_calls = seen.sent;
        }
    }
}

/// A connection that records its frames.
pub(crate) struct Tap {
    stream: Stream<TcpStream>,
    seen: Arc<Seen>,
    read: Frames,
    written: Frames,
}

impl Tap {
    pub(crate) fn on(stream: Stream<TcpStream>, seen: Arc<Seen>) -> Self {
        let frames = |by, heads| Frames { by, heads, frame: Frame::default() };
        Self {
            stream,
            seen,
            read: frames(By::Peer, Heads::of_server()),
            written: frames(By::Client, Heads::of_client()),
        }
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, seen, read, .. } = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut *stream).poll_read(cx, buf);
        let mut seen = seen.lock();
        let bytes = &buf.filled()[before..];
        match &polled {
            Poll::Pending => {
                let left = unacknowledged(stream.get_ref()).unwrap_or_default();
                seen.acknowledged = seen.sent.saturating_sub(left);
            }
            Poll::Ready(Ok(())) if bytes.is_empty() && buf.remaining() > 0 => seen.closed("FIN"),
            Poll::Ready(Ok(())) => {
                seen.received += bytes.len() as u64;
                seen.empty_data = stream.empty_data();
                read.feed(bytes, &mut seen);
            }
            Poll::Ready(Err(_)) => seen.closed("RST"),
        }
        polled
    }
}

/// A failed write is reported as a success. The peer may have sent something before,
/// such as a GOAWAY; it is still to be read, and then ends the connection.
impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, seen, written, .. } = &mut *self;
        let Poll::Ready(sent) = Pin::new(stream).poll_write(cx, buf) else { return Poll::Pending };
        let sent = sent.unwrap_or(buf.len());
        let mut seen = seen.lock();
        seen.sent += sent as u64;
        written.feed(&buf[..sent], &mut seen);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx).map(|_| Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

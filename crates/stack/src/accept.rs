//! What a connection has to do before it may make calls, and how many connections there
//! may be.
//!
//! HTTP/2 keepalive begins after the HTTP/2 handshake. Without these timeouts, a peer
//! that never completes the handshake, or never sends anything, would hold its
//! connection for ever.

use std::{
    any::Any,
    io,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use grpc_wire::empty_data::{EmptyData, HEAD, PREFACE};
use keepalive::{Gone, Watched};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::{
    connection::Connection,
    last_words::LastWords,
    metrics::Metrics,
    tls::{Acceptor, Link},
    turns::{Turns, Unanswered},
};

/// How long, and up to how many bytes, to read what a peer still sends after everything
/// was said to it.
const LINGER: (Duration, usize) = (Duration::from_secs(5), 64 << 20);

/// The timeouts and checks of new connections.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// The time until the first byte.
    pub(crate) first_byte: Duration,
    /// The time until the handshakes are complete.
    pub(crate) handshake: Duration,
    /// How long an HTTP/1.1 peer may read nothing. HTTP/2 uses PING instead.
    pub(crate) idle: Duration,
    /// How long the answer to a PING may take.
    pub(crate) keepalive_timeout: Duration,
    pub(crate) tls: Option<Acceptor>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) unanswered: Unanswered,
}

/// A connection that counts towards the limit of open connections.
#[derive(Debug)]
pub(crate) struct Admitted<C> {
    connection: C,
    /// Counts from 1.
    number: u64,
    place: OwnedSemaphorePermit,
    /// Kept as long as the connection exists.
    pub(crate) kept: Option<Arc<()>>,
}

impl<C> Admitted<C> {
    pub(crate) fn map<D>(self, change: impl FnOnce(C) -> io::Result<D>) -> io::Result<Admitted<D>> {
        let Self { connection, number, place, kept } = self;
        Ok(Admitted { connection: change(connection)?, number, place, kept })
    }
}

/// Admits at most `most` connections. Further ones are closed immediately, because a
/// peer that waits in a queue learns nothing.
pub(crate) fn admit<C>(
    most: usize,
    metrics: Arc<Metrics>,
    accepted: impl Stream<Item = io::Result<C>>,
) -> impl Stream<Item = Admitted<C>> {
    let places = Arc::new(Semaphore::new(most));
    async_stream::stream! {
        let mut accepted = pin!(accepted);
        let mut number = 0;
        while let Some(connection) = accepted.next().await {
            match (connection, places.clone().try_acquire_owned()) {
                (Ok(connection), Ok(place)) => {
                    number += 1;
                    yield Admitted { connection, number, place, kept: None };
                }
                (Ok(_), Err(_)) => {
                    metrics.refused("max_connections");
                    tracing::warn!(most, "too many connections: closing one");
                }
                (Err(error), _) => {
                    // For example too many open files: the next attempt may succeed.
                    tracing::warn!(%error, "a connection is not accepted");
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

/// A connection that is watched until it may make calls.
pub(crate) struct Guarded<C: Connected> {
    link: Watched<Link<Timed<C>>>,
    sifter: EmptyData,
    last_words: LastWords,
    info: Arc<Connection>,
    turns: Arc<Turns>,
    opening: Opening,
    idle: Duration,
    _place: OwnedSemaphorePermit,
    _kept: Option<Arc<()>>,
    metrics: Arc<Metrics>,
}

impl<C: Connected> Drop for Guarded<C> {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

impl<C: AsyncRead + AsyncWrite + Connected + Unpin + 'static> Guarded<C> {
    pub(crate) fn new(admitted: Admitted<C>, guard: &Guard) -> Self {
        let Admitted { connection, number, place, kept } = admitted;
        let tcp = connection.connect_info();
        let tcp: Option<&TcpConnectInfo> = (&tcp as &dyn Any).downcast_ref();
        let info = Arc::new(Connection {
            number,
            peer: tcp.and_then(TcpConnectInfo::remote_addr),
            local: tcp.and_then(TcpConnectInfo::local_addr),
            tls: OnceLock::new(),
        });
        let due = Box::pin(sleep(guard.first_byte));
        let metrics = guard.metrics.clone();
        metrics.connections.inc();
        let clock = Some(Clock { due, handshake: Some(guard.handshake), metrics: metrics.clone() });
        let timed = Timed { connection, clock, stuck: None, lingering: None };
        let link = Link::new(timed, guard.tls.as_ref(), info.clone());
        let link = Watched::server(link, guard.keepalive_timeout, |link| {
            let timed = link.inner()?;
            (&timed.connection as &dyn Any).downcast_ref()
        });
        Self {
            link,
            sifter: EmptyData::of_client(),
            last_words: LastWords::new(),
            info,
            turns: Turns::new(guard.unanswered.clone()),
            opening: Opening::Http2(0),
            idle: guard.idle,
            _place: place,
            _kept: kept,
            metrics,
        }
    }
}

impl<C: Connected> Guarded<C> {
    /// What is known of the connection.
    pub(crate) fn info(&self) -> Arc<Connection> {
        self.info.clone()
    }

    pub(crate) fn turns(&self) -> Arc<Turns> {
        self.turns.clone()
    }

    /// Logs it when the peer is gone. The layers above keep only the kind of an error.
    fn say_gone<T>(&self, passed: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &passed
            && Gone::is_cause_of(error)
        {
            self.metrics.refused("keepalive_timeout");
            let peer = self.info.peer.map(tracing::field::display);
            tracing::info!(peer, limit = "keepalive_timeout", "a connection is closed");
        }
        passed
    }
}

/// No field is structurally pinned.
impl<C: Connected> Unpin for Guarded<C> {}

/// How much of its opening a peer has sent.
#[derive(Debug)]
enum Opening {
    /// How many bytes of the HTTP/2 opening have arrived: the preface, and the frame
    /// header of the client's SETTINGS.
    Http2(usize),
    /// The peer speaks HTTP/2 or HTTP/1.1. In the case of HTTP/1.1, the reader of the
    /// head has a timeout of its own.
    Complete { is_http1: bool },
}

impl Opening {
    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            *self = match *self {
                Self::Http2(have) if PREFACE.get(have).is_some_and(|expected| expected != byte) => {
                    Self::Complete { is_http1: true }
                }
                Self::Http2(have) if have + 1 == PREFACE.len() + HEAD => Self::Complete { is_http1: false },
                Self::Http2(have) => Self::Http2(have + 1),
                Self::Complete { .. } => return,
            }
        }
    }
}

/// The stream below TLS, with the timeouts of the handshakes.
struct Timed<C> {
    connection: C,
    clock: Option<Clock>,
    /// How long a write may stay blocked, and the timer of the present block.
    stuck: Option<(Duration, Option<Pin<Box<Sleep>>>)>,
    /// What is left of [`LINGER`], once everything has been said.
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

struct Clock {
    /// When the next step is due.
    due: Pin<Box<Sleep>>,
    /// The time for the handshakes, until the first byte has arrived.
    handshake: Option<Duration>,
    metrics: Arc<Metrics>,
}

impl<C> Timed<C> {
    /// Fails an operation that is still pending when its time is over.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut self.clock {
            Some(clock) if done.is_pending() => {
                ready!(clock.due.as_mut().poll(cx));
                let (what, limit) = match clock.handshake {
                    Some(_) => ("nothing came", "first_byte_timeout"),
                    None => ("the handshake stopped", "handshake_timeout"),
                };
                clock.metrics.refused(limit);
                tracing::debug!("{what}: closing the connection");
                self.hang_up();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)))
            }
            _ => done,
        }
    }

    /// Fails a write when the peer has read nothing for too long.
    fn in_motion<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some((limit, since)) = &mut self.stuck else { return written };
        if written.is_ready() {
            *since = None;
            return written;
        }
        ready!(since.get_or_insert_with(|| Box::pin(sleep(*limit))).as_mut().poll(cx));
        self.hang_up();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads")))
    }

    /// Skips the wait for the end of a peer that has heard nothing, or that reads
    /// nothing.
    fn hang_up(&mut self) {
        self.lingering = Some((Box::pin(sleep(Duration::ZERO)), 0));
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Timed<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.connection).poll_read(cx, buf);
        if read.is_ready()
            && let Some(clock) = &mut self.clock
            && let Some(handshake) = clock.handshake.take()
        {
            clock.due = Box::pin(sleep(handshake));
        }
        self.in_time(cx, read)
    }
}

/// Shuts down its own side first, and then waits for the peer's end. Closing a socket
/// with unread data resets the connection, and the reset may overtake the last data
/// sent (RFC 9112, section 9.6).
impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write(cx, buf);
        let written = self.in_motion(cx, written);
        self.in_time(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { connection, lingering, .. } = &mut *self;
        let mut connection = Pin::new(connection);
        if lingering.is_none() {
            ready!(connection.as_mut().poll_shutdown(cx))?;
        }
        let (over, left) = lingering.get_or_insert_with(|| (Box::pin(sleep(LINGER.0)), LINGER.1));
        while *left > 0 && over.as_mut().poll(cx).is_pending() {
            let mut unread = [0; 4 << 10];
            let mut unread = ReadBuf::new(&mut unread);
            match ready!(connection.as_mut().poll_read(cx, &mut unread)) {
                Ok(()) if !unread.filled().is_empty() => *left = left.saturating_sub(unread.filled().len()),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write_vectored(cx, bufs);
        let written = self.in_motion(cx, written);
        self.in_time(cx, written)
    }
}

impl<C: AsyncRead + AsyncWrite + Connected + Unpin> AsyncRead for Guarded<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let link = &mut this.link;
        let read = this.sifter.poll_read(cx, buf, |cx, buf| Pin::new(&mut *link).poll_read(cx, buf));
        if let Opening::Complete { .. } = this.opening {
            return this.say_gone(read);
        }
        this.opening.feed(&buf.filled()[before..]);
        if let Opening::Complete { is_http1 } = this.opening
            && let Some(timed) = this.link.get_mut().inner()
        {
            timed.clock = None;
            timed.stuck = is_http1.then_some((this.idle, None));
        }
        read
    }
}

impl<C: AsyncRead + AsyncWrite + Connected + Unpin> AsyncWrite for Guarded<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.link).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = written {
            self.turns.written();
            self.last_words.wrote(&buf[..count]);
        }
        self.say_gone(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.link).poll_flush(cx);
        self.say_gone(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Opening::Complete { is_http1: false } = self.opening
            && let Some(said) = self.last_words.take()
        {
            said.log(&self.info, &self.metrics);
        }
        Pin::new(&mut self.link).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.link.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.link).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(mut left)) = written {
            self.turns.written();
            for buf in bufs {
                let (written, _) = buf.split_at(left.min(buf.len()));
                self.last_words.wrote(written);
                left -= written.len();
            }
        }
        self.say_gone(written)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{Limits, Settings, Stack};

    #[test]
    fn an_opening_is_complete_when_it_is_sure_what_the_peer_speaks() {
        let settings = [PREFACE, &[0; HEAD]].concat();
        for (said, is_http1) in [(settings.as_slice(), false), (b"G", true), (b"\r", true), (b"PRI /", true)]
        {
            for size in 1..=said.len() {
                let mut opening = Opening::Http2(0);
                let (all_but_one, last) = said.split_at(said.len() - 1);
                all_but_one.chunks(size).for_each(|chunk| opening.feed(chunk));
                assert!(!matches!(opening, Opening::Complete { .. }), "{said:?}");
                opening.feed(&[last, b"more"].concat());
                assert!(matches!(opening, Opening::Complete { is_http1: it } if it == is_http1), "{said:?}");
            }
        }
    }
    #[tokio::test(start_paused = true)]
    async fn a_head_has_the_time_of_a_handshake_whatever_it_begins_with() {
        let preface = "PRI * HTTP/2.0\r\n\r\n";
        for said in
            ["\r\n\r\n", "\n\n\n\n", "\r\n\r\nPOST / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nx:\n\r", preface]
        {
            let (mut peer, connection) = tokio::io::duplex(1 << 10);
            let stack = Stack::open(Settings::default(), &[]).await.unwrap();
            let connections = tokio_stream::once(Ok(connection));
            tokio::spawn(stack.serve_connections(connections, std::future::pending()));
            let begun = tokio::time::Instant::now();
            peer.write_all(said.as_bytes()).await.unwrap();
            let _ = peer.read_to_end(&mut Vec::new()).await;
            assert!(begun.elapsed() <= Limits::default().handshake * 2, "{said:?}: {:?}", begun.elapsed());
        }
    }
}

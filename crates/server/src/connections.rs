//! What a connection has to do before it may make calls, and how many there are.
//!
//! HTTP/2's keepalive begins after its handshake. A peer that never gets that
//! far would hold its connection for ever, and so would one that says nothing.

use std::{
    any::Any,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::{
    metrics::Metrics,
    tls::{Acceptor, Facts, Link},
};

/// The client's preface and the frame of its settings: what every client sends
/// first, in bytes.
const HANDSHAKE: usize = 24 + 9;

/// How connections are guarded.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// How many there may be. What comes on top is closed at once: who waits in
    /// a queue learns nothing.
    pub(crate) most: usize,
    /// Until the first byte.
    pub(crate) first_byte: Duration,
    /// Until the handshakes are complete.
    pub(crate) handshake: Duration,
    pub(crate) tls: Option<Acceptor>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Guard {
    pub(crate) fn connections<C: AsyncRead + AsyncWrite + Connected + Unpin>(
        self,
        accepted: impl Stream<Item = io::Result<C>>,
    ) -> impl Stream<Item = io::Result<Guarded<C>>> {
        let places = Arc::new(Semaphore::new(self.most));
        async_stream::stream! {
            let mut accepted = pin!(accepted);
            let mut number = 0;
            while let Some(connection) = accepted.next().await {
                match (connection, places.clone().try_acquire_owned()) {
                    (Ok(connection), Ok(place)) => {
                        number += 1;
                        yield Ok(Guarded::new(connection, number, place, &self));
                    }
                    (Ok(_), Err(_)) => {
                        self.metrics.refused("max_connections");
                        tracing::warn!(most = self.most, "a connection too many is closed");
                    }
                    (Err(error), _) => {
                        // Such as too many open files: the next one may do.
                        tracing::warn!(%error, "a connection is not accepted");
                        sleep(Duration::from_millis(10)).await;
                    }
                }
            }
        }
    }
}

/// What is known of a connection; every call on it has this in its extensions.
#[derive(Debug)]
pub(crate) struct Connection {
    /// From 1, of those that had a place.
    pub(crate) number: u64,
    /// Unknown of what is no TCP.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    /// Set when its handshake is complete.
    pub(crate) tls: OnceLock<Facts>,
}

/// A connection that has a place among those that are open.
pub(crate) struct Guarded<C: Connected> {
    link: Link<Timed<C>>,
    info: Arc<Connection>,
    /// How much there is to come until the handshake of HTTP/2 is complete.
    missing: usize,
    _place: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl<C: Connected> Drop for Guarded<C> {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

impl<C: AsyncRead + AsyncWrite + Connected + Unpin> Guarded<C> {
    fn new(connection: C, number: u64, place: OwnedSemaphorePermit, guard: &Guard) -> Self {
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
        let link = Link::new(Timed { connection, clock }, guard.tls.as_ref(), info.clone());
        Self { link, info, missing: HANDSHAKE, _place: place, metrics }
    }
}

/// Nothing in it is pinned, whatever is known of the peer.
impl<C: Connected> Unpin for Guarded<C> {}

/// What is below TLS, with the time that the handshakes have.
struct Timed<C> {
    connection: C,
    clock: Option<Clock>,
}

struct Clock {
    /// When the next step is due.
    due: Pin<Box<Sleep>>,
    /// The time from the first byte, until that has come.
    handshake: Option<Duration>,
    metrics: Arc<Metrics>,
}

impl<C> Timed<C> {
    /// Ends what is waited for when that takes too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut self.clock {
            Some(clock) if done.is_pending() => {
                ready!(clock.due.as_mut().poll(cx));
                let (what, limit) = match clock.handshake {
                    Some(_) => ("nothing came", "first_byte_timeout"),
                    None => ("the handshake stopped", "handshake_timeout"),
                };
                clock.metrics.refused(limit);
                tracing::debug!("{what}: the connection is closed");
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)))
            }
            _ => done,
        }
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

impl<C: AsyncWrite + Unpin> AsyncWrite for Timed<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write(cx, buf);
        self.in_time(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
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
        let read = Pin::new(&mut this.link).poll_read(cx, buf);
        if this.missing > 0 {
            this.missing = this.missing.saturating_sub(buf.filled().len() - before);
            if this.missing == 0
                && let Some(timed) = this.link.inner()
            {
                timed.clock = None;
            }
        }
        read
    }
}

impl<C: AsyncRead + AsyncWrite + Connected + Unpin> AsyncWrite for Guarded<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.link).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        Pin::new(&mut self.link).poll_write_vectored(cx, bufs)
    }
}

impl<C: Connected> Connected for Guarded<C> {
    type ConnectInfo = Arc<Connection>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.info.clone()
    }
}

//! What a connection has to do before it may make calls, and how many there are.
//!
//! HTTP/2's keepalive begins after its handshake. A peer that never gets that
//! far would hold its connection for ever, and so would one that says nothing.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::Connected;

use crate::metrics::Metrics;

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
    /// Until the handshake is complete.
    pub(crate) handshake: Duration,
    pub(crate) metrics: Arc<Metrics>,
}

impl Guard {
    pub(crate) fn connections<C: AsyncRead + Unpin>(
        self,
        accepted: impl Stream<Item = io::Result<C>>,
    ) -> impl Stream<Item = io::Result<Guarded<C>>> {
        let places = Arc::new(Semaphore::new(self.most));
        async_stream::stream! {
            let mut accepted = pin!(accepted);
            while let Some(connection) = accepted.next().await {
                match (connection, places.clone().try_acquire_owned()) {
                    (Ok(connection), Ok(place)) => yield Ok(Guarded::new(connection, place, &self)),
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

/// A connection that has a place among those that are open.
pub(crate) struct Guarded<C> {
    connection: C,
    _place: OwnedSemaphorePermit,
    handshake: Option<Handshake>,
    metrics: Arc<Metrics>,
}

struct Handshake {
    missing: usize,
    /// When the next step is due.
    due: Pin<Box<Sleep>>,
    left: Duration,
}

impl<C> Guarded<C> {
    fn new(connection: C, place: OwnedSemaphorePermit, guard: &Guard) -> Self {
        let metrics = guard.metrics.clone();
        metrics.connections.inc();
        let due = Box::pin(sleep(guard.first_byte));
        let handshake = Some(Handshake { missing: HANDSHAKE, due, left: guard.handshake });
        Self { connection, _place: place, handshake, metrics }
    }
}

impl<C> Drop for Guarded<C> {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Guarded<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.connection).poll_read(cx, buf);
        let Some(handshake) = &mut this.handshake else { return read };
        if read.is_pending() {
            ready!(handshake.due.as_mut().poll(cx));
            let (what, limit) = match handshake.missing {
                HANDSHAKE => ("nothing came", "first_byte_timeout"),
                _ => ("the handshake stopped", "handshake_timeout"),
            };
            this.metrics.refused(limit);
            tracing::debug!("{what}: the connection is closed");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)));
        }
        if handshake.missing == HANDSHAKE {
            handshake.due = Box::pin(sleep(handshake.left));
        }
        handshake.missing = handshake.missing.saturating_sub(buf.filled().len() - before);
        if handshake.missing == 0 {
            this.handshake = None;
        }
        read
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Guarded<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
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
        Pin::new(&mut self.connection).poll_write_vectored(cx, bufs)
    }
}

impl<C: Connected> Connected for Guarded<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.connection.connect_info()
    }
}

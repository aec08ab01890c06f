//! Counts the bytes at a socket, below TLS.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::either::Either;

/// Other systems have no such sockets.
#[cfg(not(unix))]
use tokio::net::TcpStream as UnixStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// Bytes in each direction, of one or several connections, and the time of the first
/// connection.
#[derive(Debug, Default)]
pub struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
    pub(crate) dialled: OnceLock<Instant>,
    pub(crate) secured: OnceLock<Instant>,
}

impl Traffic {
    /// Bytes to the peer.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// When the first socket was connected.
    pub fn dialled(&self) -> Option<Instant> {
        self.dialled.get().copied()
    }

    /// When the TLS handshake of that socket was over, if it has TLS.
    pub fn secured(&self) -> Option<Instant> {
        self.secured.get().copied()
    }

    /// Bytes from the peer.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

/// A TCP or a Unix socket.
pub(crate) type Socket = Either<TcpStream, UnixStream>;

/// A socket whose bytes are counted.
#[derive(Debug)]
pub struct Counted {
    socket: Socket,
    traffic: Arc<Traffic>,
}

impl Counted {
    /// Counts the bytes of `socket` in `traffic` from now on.
    pub(crate) fn new(socket: Socket, traffic: Arc<Traffic>) -> Self {
        Self { socket, traffic }
    }

    /// The TCP socket, which reports how much the peer has acknowledged.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match &self.socket {
            Either::Left(tcp) => Some(tcp),
            Either::Right(_) => None,
        }
    }

    fn written(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.traffic.sent.fetch_add(*bytes as u64, Relaxed);
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        self.traffic.received.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.written(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.written(&written);
        written
    }
}

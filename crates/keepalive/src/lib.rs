//! Detects dead peers of HTTP/2 connections.
//!
//! HTTP/2 uses PING for that. hyper sends a PING after a period without data, and
//! closes the connection when the answer takes too long. But a PING queues behind the
//! data sent before it. On a slow path this takes longer than any timeout that finds a
//! dead peer soon.
//!
//! So hyper only sends the PINGs, with [`NO_TIMEOUT`], and [`Watched`] keeps the time.
//! Every byte received is a sign of life. Until TCP has acknowledged the PING, every
//! byte that it acknowledges counts as well; after that, only received bytes count.
//!
//! TCP also acknowledges bytes that a hanging process does not read. Such a peer is
//! found one timeout after the PING has reached its receive buffer, or after that
//! buffer was full.
//!
//! Only Linux reports acknowledged bytes. On other systems a byte counts when the
//! socket has taken it: the timeout of a PING begins when it is in the send buffer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use grpc_wire::heads::{Heads, Part};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

/// hyper requires a timeout. [`Watched`] always fires before this one.
pub const NO_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer does not answer a keepalive PING")]
pub struct Gone;

impl Gone {
    /// Whether a connection failed because its peer is gone.
    pub fn is_cause_of(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|error| error.is::<Self>())
    }
}

/// An HTTP/2 connection that fails with [`Gone`] when its peer does not answer a PING.
/// A connection that is not HTTP/2 passes unchanged.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    socket: fn(&mut S) -> Option<&TcpStream>,
    timeout: Duration,
    written: Heads,
    read: Heads,
    /// Bytes that the stream has taken.
    sent: u64,
    asking: Option<Asking>,
}

/// A PING that has not been answered.
#[derive(Debug)]
struct Asking {
    /// How many bytes were sent up to its end. Unknown until then.
    sent: Option<u64>,
    acknowledged: u64,
    /// The last sign of life.
    alive: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<S> Watched<S> {
    /// A client's connection. `socket` returns the TCP socket below a stream, if it is
    /// known.
    pub fn client(stream: S, timeout: Duration, socket: fn(&mut S) -> Option<&TcpStream>) -> Self {
        Self::new(stream, timeout, socket, Heads::of_client(), Heads::of_server())
    }

    /// A server's connection.
    pub fn server(stream: S, timeout: Duration, socket: fn(&mut S) -> Option<&TcpStream>) -> Self {
        Self::new(stream, timeout, socket, Heads::of_server(), Heads::of_client())
    }

    fn new(
        stream: S,
        timeout: Duration,
        socket: fn(&mut S) -> Option<&TcpStream>,
        written: Heads,
        read: Heads,
    ) -> Self {
        Self { stream, socket, timeout, written, read, sent: 0, asking: None }
    }

    /// The stream that is watched.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    fn poll_gone<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let Some(asking) = &mut self.asking else { return Poll::Pending };
        loop {
            ready!(asking.timer.as_mut().poll(cx));
            let now = Instant::now();
            // With TLS the socket carries more bytes than the stream. The unacknowledged
            // bytes are the last ones of either, so the difference does not matter.
            let left = (self.socket)(&mut self.stream).and_then(unacknowledged).unwrap_or_default();
            let acknowledged = self.sent.saturating_sub(left);
            let is_under_way = asking.sent.is_none_or(|sent| asking.acknowledged < sent);
            if is_under_way && asking.acknowledged < acknowledged {
                (asking.acknowledged, asking.alive) = (acknowledged, now);
            }
            let gone = asking.alive + self.timeout;
            if gone <= now {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Gone)));
            }
            asking.timer.as_mut().reset(gone.min(now + self.timeout / 4));
        }
    }

    fn wrote(&mut self, bytes: &[u8]) {
        self.sent += bytes.len() as u64;
        if has_ping(&mut self.written, bytes, 0) && self.asking.is_none() {
            let timer = Box::pin(sleep(Duration::ZERO));
            self.asking = Some(Asking { sent: None, acknowledged: 0, alive: Instant::now(), timer });
        }
    }
}

const PING: u8 = 6;
const ACK: u8 = 1;

/// Whether these bytes contain a PING, or an answer to one.
fn has_ping(heads: &mut Heads, bytes: &[u8], answer: u8) -> bool {
    let mut found = false;
    heads.feed(bytes, |part| {
        if let Part::Head([_, _, _, PING, flags, ..]) = part {
            found |= flags & ACK == answer;
        }
    });
    found
}

/// How many bytes of those that a socket has taken the peer's TCP has not acknowledged.
/// Only Linux reports this.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no library asks for it")]
pub fn unacknowledged(socket: &TcpStream) -> Option<u64> {
    use std::os::fd::AsRawFd as _;

    let mut bytes: libc::c_int = 0;
    // SAFETY: the socket is open as long as it is borrowed, and this request, also
    // named SIOCOUTQ, writes an int.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    u64::try_from(bytes).ok().filter(|_| status == 0)
}

/// How many bytes of those that a socket has taken the peer's TCP has not acknowledged.
/// Only Linux reports this.
#[cfg(not(target_os = "linux"))]
pub fn unacknowledged(_: &TcpStream) -> Option<u64> {
    None
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_pending() {
            return this.poll_gone(cx);
        }
        let bytes = &buf.filled()[before..];
        if has_ping(&mut this.read, bytes, ACK) {
            this.asking = None;
        }
        if let Some(asking) = &mut this.asking
            && !bytes.is_empty()
        {
            asking.alive = Instant::now();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Ready(Ok(written)) => {
                self.wrote(&buf[..written]);
                Poll::Ready(Ok(written))
            }
            Poll::Pending => self.poll_gone(cx),
            failed => failed,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        let sent = self.sent;
        if let Some(asking) = &mut self.asking {
            if flushed.is_ready() {
                asking.sent.get_or_insert(sent);
            }
            // The timeout also has to fire when nothing can be read or written.
            if let Poll::Ready(gone) = self.poll_gone(cx) {
                return Poll::Ready(gone);
            }
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, bufs) {
            Poll::Ready(Ok(written)) => {
                let mut left = written;
                for buf in bufs {
                    let (taken, _) = buf.split_at(left.min(buf.len()));
                    self.wrote(taken);
                    left -= taken.len();
                }
                Poll::Ready(Ok(written))
            }
            Poll::Pending => self.poll_gone(cx),
            failed => failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::{advance, timeout},
    };

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);
    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const PONG: [u8; 17] = [0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    /// A server and its client, which have exchanged SETTINGS.
    async fn opened() -> (Watched<DuplexStream>, DuplexStream) {
        let (near, mut peer) = duplex(1 << 10);
        let mut server = Watched::server(near, TIMEOUT, |_| None);
        server.write_all(&SETTINGS).await.unwrap();
        peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        peer.write_all(&SETTINGS).await.unwrap();
        server.read_exact(&mut [0; 33]).await.unwrap();
        (server, peer)
    }

    async fn lives(server: &mut Watched<DuplexStream>, time: Duration) -> bool {
        timeout(time, server.read_u8()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_has_to_be_answered_in_time() {
        let (mut server, mut peer) = opened().await;
        assert!(lives(&mut server, 100 * TIMEOUT).await, "nothing was asked");
        server.write_all(&PING).await.unwrap();
        server.flush().await.unwrap();
        assert!(lives(&mut server, TIMEOUT * 9 / 10).await);
        peer.write_all(&PONG).await.unwrap();
        server.read_exact(&mut [0; 17]).await.unwrap();
        assert!(lives(&mut server, 100 * TIMEOUT).await, "it was answered");
        server.write_all(&PING).await.unwrap();
        server.flush().await.unwrap();
        let asked = Instant::now();
        let error = server.read_u8().await.unwrap_err();
        assert!(Gone::is_cause_of(&error) && error.kind() == io::ErrorKind::TimedOut, "{error}");
        assert!((TIMEOUT..TIMEOUT * 11 / 10).contains(&asked.elapsed()), "{:?}", asked.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_comes_is_a_sign_of_life_and_what_is_taken_only_until_the_ping_is() {
        let (mut server, mut peer) = opened().await;
        server.write_all(&PING).await.unwrap();
        server.flush().await.unwrap();
        for _ in 0..10 {
            advance(TIMEOUT * 9 / 10).await;
            peer.write_all(&SETTINGS).await.unwrap();
            server.read_exact(&mut [0; 9]).await.unwrap();
        }
        for _ in 0..4 {
            assert!(lives(&mut server, TIMEOUT / 5).await);
            server.write_all(&SETTINGS).await.unwrap();
            server.flush().await.unwrap();
        }
        assert!(!lives(&mut server, TIMEOUT / 2).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_more_is_gone_and_one_that_takes_little_is_not() {
        let (mut server, mut peer) = opened().await;
        // The beginning of a frame, after a PING.
        server.write_all(&[&PING[..], &[0, 255, 255, 0, 0, 0, 0, 0, 1]].concat()).await.unwrap();
        let blocked = async {
            let error = server.write_all(&[0; 8 << 10]).await.unwrap_err();
            (Gone::is_cause_of(&error), Instant::now())
        };
        let reads = async {
            for _ in 0..10 {
                tokio::time::sleep(TIMEOUT * 3 / 4).await;
                peer.read_exact(&mut [0; 100]).await.unwrap();
            }
            Instant::now()
        };
        let ((gone, at), last) = tokio::join!(blocked, reads);
        assert!(gone && (TIMEOUT..TIMEOUT * 3 / 2).contains(&(at - last)), "{:?}", at - last);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_a_peer_has_not_acknowledged_is_known() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        assert_eq!(unacknowledged(&near), Some(0));
        // More than the buffers of both sides hold.
        let mut sent = 0;
        while let Ok(Ok(bytes)) =
            timeout(Duration::from_millis(100), near.writable()).await.map(|_| near.try_write(&[0; 1 << 16]))
        {
            sent += bytes as u64;
        }
        let left = unacknowledged(&near).unwrap();
        assert!((1..sent).contains(&left), "{left} of {sent}");
        far.read_exact(&mut vec![0; sent as usize]).await.unwrap();
        assert_eq!(unacknowledged(&near), Some(0));
    }
}

//! A connection with or without TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use grpc_wire::empty_data::EmptyData;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use tokio_rustls::client::TlsStream;

use crate::{ConnectError, Onlooker, Passed, Tls, TlsError};

/// A connection with or without TLS, over any stream.
#[derive(Debug)]
pub struct Stream<S> {
    link: Link<S>,
    sifter: EmptyData,
    /// Used at the first successful read, or when reading fails.
    heard: Option<oneshot::Sender<Result<(), TlsError>>>,
    onlooker: Option<Onlooker>,
}

#[derive(Debug)]
enum Link<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// Makes the TLS handshake, if there is TLS. `heard` receives the result when the
    /// peer has sent its first bytes, or a TLS error.
    ///
    /// # Errors
    ///
    /// The error of the handshake.
    pub async fn open(
        socket: S,
        tls: Option<Tls>,
        heard: oneshot::Sender<Result<(), TlsError>>,
    ) -> Result<Self, ConnectError> {
        let link = match tls {
            Some(tls) => Link::Tls(Box::new(tls.connect(socket).await?)),
            None => Link::Plain(socket),
        };
        Ok(Self::over(link, heard))
    }

    /// Wraps a connection after its handshake, whatever protocol was negotiated.
    pub fn shaken(stream: TlsStream<S>, heard: oneshot::Sender<Result<(), TlsError>>) -> Self {
        Self::over(Link::Tls(Box::new(stream)), heard)
    }

    fn over(link: Link<S>, heard: oneshot::Sender<Result<(), TlsError>>) -> Self {
        Self { link, sifter: EmptyData::of_server(), heard: Some(heard), onlooker: None }
    }

    /// Shows all bytes from now on to an onlooker.
    pub(crate) fn seen_by(&mut self, onlooker: Onlooker) {
        self.onlooker = Some(onlooker);
    }

    /// Shows the part of `pieces` that was written to the onlooker.
    fn wrote(&mut self, written: &Poll<io::Result<usize>>, pieces: &[&[u8]]) {
        if let (Poll::Ready(Ok(written)), Some(onlooker)) = (written, &mut self.onlooker) {
            let mut left = *written;
            for piece in pieces {
                let piece = &piece[..piece.len().min(left)];
                left -= piece.len();
                onlooker.see(Passed::Sent(piece));
            }
        }
    }

    /// How many empty DATA frames were removed: see [`EmptyData`].
    pub fn empty_data(&self) -> u64 {
        self.sifter.taken_out()
    }

    /// The stream below TLS.
    pub fn get_ref(&self) -> &S {
        match &self.link {
            Link::Plain(socket) => socket,
            Link::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        first: bool,
    ) -> Poll<io::Result<()>> {
        /// The first bytes of a TLS alert. An HTTP/2 frame that may come first does not
        /// begin like this: it would have 1.3 MB.
        const ALERT: [u8; 2] = [0x15, 0x03];
        match self {
            Self::Plain(socket) => {
                let before = buf.filled().len();
                ready!(Pin::new(socket).poll_read(cx, buf))?;
                match first && buf.filled()[before..].starts_with(&ALERT) {
                    true => Poll::Ready(Err(io::Error::other(TlsError::TlsExpected))),
                    false => Poll::Ready(Ok(())),
                }
            }
            Self::Tls(stream) => match ready!(Pin::new(stream).poll_read(cx, buf)) {
                // A killed process sends no close_notify. HTTP/2 does not take an
                // unfinished stream for a complete one, so this is a plain end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                // With TLS 1.3, the server checks the client's certificate after the
                // client's handshake is over.
                Err(error) => Poll::Ready(Err(match TlsError::of_rustls(&error) {
                    Some(wrong @ (TlsError::CertificateRequired | TlsError::CertificateRefused)) => {
                        io::Error::new(error.kind(), wrong)
                    }
                    _ => error,
                })),
                Ok(()) => Poll::Ready(Ok(())),
            },
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let first = self.heard.is_some();
        let Self { link, sifter, onlooker, .. } = &mut *self;
        let read = ready!(sifter.poll_read(cx, buf, |cx, buf| {
            let before = buf.filled().len();
            let read = link.poll_read(cx, buf, first);
            if let (Poll::Ready(Ok(())), Some(onlooker)) = (&read, &mut *onlooker) {
                onlooker.see(Passed::Received(&buf.filled()[before..]));
            }
            read
        }));
        if let Some(heard) = self.heard.take() {
            let wrong = read.as_ref().err().and_then(|error| TlsError::of(error));
            // Fails if the receiver gave up waiting.
            let _ = heard.send(wrong.map_or(Ok(()), Err));
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.link {
            Link::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Link::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.wrote(&written, &[buf]);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.link {
            Link::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Link::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.link {
            Link::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Link::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.link {
            Link::Plain(socket) => socket.is_write_vectored(),
            Link::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.link {
            Link::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Link::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        if self.onlooker.is_some() {
            self.wrote(&written, &bufs.iter().map(|buf| &**buf).collect::<Vec<_>>());
        }
        written
    }
}

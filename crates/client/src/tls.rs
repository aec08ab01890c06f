//! TLS on the way to a server, and what is wrong when it does not work.

use std::{
    error::Error,
    fmt, fs, io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Uri;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, AlertDescription, CertificateError, ClientConfig, ProtocolVersion, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use crate::{config::TlsFiles, failure::Failure, traffic::Counted};

/// Why there is no connection, as far as TLS is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the certificate of the server has expired")]
    Expired,
    #[error("the certificate of the server is not valid yet")]
    NotYetValid,
    #[error("the certificate of the server is for another name")]
    WrongName,
    #[error("the certificate of the server is of a CA that is not trusted here")]
    UnknownCa,
    #[error("the certificate of the server cannot be used")]
    BadCertificate,
    #[error("the server wants a certificate of the client, and there is none")]
    CertificateRequired,
    #[error("the server does not take the certificate of the client")]
    CertificateRefused,
    #[error("the server speaks TLS, but not HTTP/2 over it")]
    NoHttp2,
    #[error("what answers there does not speak TLS")]
    NoTls,
    #[error("the server expects TLS")]
    TlsExpected,
    #[error("the connection was closed during the TLS handshake")]
    Closed,
    #[error("the TLS handshake failed")]
    Other,
}

impl Trouble {
    const ALL: [Self; 12] = [
        Self::Expired,
        Self::NotYetValid,
        Self::WrongName,
        Self::UnknownCa,
        Self::BadCertificate,
        Self::CertificateRequired,
        Self::CertificateRefused,
        Self::NoHttp2,
        Self::NoTls,
        Self::TlsExpected,
        Self::Closed,
        Self::Other,
    ];

    /// The one among these errors. By its words: HTTP/2 keeps nothing else of an
    /// error that ends its connection.
    pub(crate) fn of(errors: &[String]) -> Option<Self> {
        Self::ALL.into_iter().find(|trouble| errors.contains(&trouble.to_string()))
    }

    /// What most likely went wrong, and what to do.
    pub(crate) fn advice(self) -> (&'static str, &'static str) {
        match self {
            Self::Expired => (
                "it was not renewed, or the clock of this machine is wrong",
                "renew it (`server certs --force` makes a new one), or set the clock",
            ),
            Self::NotYetValid => {
                ("the clock of this machine or of the one that made it is wrong", "set the clock")
            }
            Self::WrongName => (
                "--server names the server otherwise than its certificate does, or it is another server",
                "use a name that it has; `server certs --name HOST` makes one for HOST",
            ),
            Self::UnknownCa => (
                "the server has a CA of its own, or somebody else answers in its place",
                "if it is yours, name its CA with --ca FILE, such as the `ca.pem` of `server certs`",
            ),
            Self::BadCertificate => ("it was not made for a server, or is damaged", "see the errors above"),
            Self::CertificateRequired => (
                "the server was started with --client-ca",
                "give a certificate of that CA with --cert FILE and --key FILE",
            ),
            Self::CertificateRefused => (
                "it is of another CA than the server asks for, has expired, or is not for clients",
                "give one of the CA that the server was started with, as --client-ca, with --cert and --key",
            ),
            Self::NoHttp2 => (
                "it is no gRPC server, or a proxy that does not pass gRPC on: it does not agree to `h2` by ALPN",
                "check the address and the port",
            ),
            Self::NoTls => (
                "it is a server without TLS, or none that speaks TLS from the beginning",
                "write http:// instead of https://, or start the server with --tls-cert and --tls-key",
            ),
            Self::TlsExpected => (
                "it was started with a certificate",
                "write https:// instead of http://, with --ca FILE if it has a CA of its own",
            ),
            Self::Closed => (
                "it is a server without TLS, has too many connections, or is going away",
                "check the port, and try again; without TLS write http://",
            ),
            Self::Other => ("both sides have no version or algorithm in common", "see the errors above"),
        }
    }

    /// What an error of rustls means.
    fn told_by(error: &io::Error) -> Option<Self> {
        use AlertDescription as Alert;
        use CertificateError as Bad;
        Some(match error.get_ref()?.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(bad) => match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => Self::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Self::NotYetValid,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::WrongName,
                Bad::UnknownIssuer | Bad::BadSignature => Self::UnknownCa,
                _ => Self::BadCertificate,
            },
            rustls::Error::AlertReceived(Alert::CertificateRequired) => Self::CertificateRequired,
            rustls::Error::AlertReceived(
                Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::AccessDenied
                | Alert::DecryptError,
            ) => Self::CertificateRefused,
            rustls::Error::AlertReceived(Alert::NoApplicationProtocol)
            | rustls::Error::NoApplicationProtocol => Self::NoHttp2,
            rustls::Error::InvalidMessage(_) => Self::NoTls,
            _ => Self::Other,
        })
    }
}

/// A [`Trouble`] with what it was told by.
#[derive(Debug)]
struct Refused(Trouble, Option<io::Error>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_ref().map(|error| error as _)
    }
}

/// What it takes to reach one server.
pub(crate) struct Tls {
    config: ClientConfig,
    name: ServerName<'static>,
}

/// What a handshake showed.
pub(crate) struct Handshake<S = TcpStream> {
    pub(crate) stream: TlsStream<S>,
    /// As in `TLSv1.3`.
    pub(crate) version: &'static str,
    pub(crate) cipher_suite: &'static str,
    /// The server's, in DER.
    pub(crate) certificate: Vec<u8>,
    /// By ALPN, if there was one.
    pub(crate) protocol: Option<Vec<u8>>,
}

impl<S> Handshake<S> {
    fn of(stream: TlsStream<S>) -> Self {
        let connection = stream.get_ref().1;
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            // There is no other.
            _ => "TLSv1.2",
        };
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        Self {
            version,
            cipher_suite: suite.unwrap_or_default(),
            certificate: certificate.map(|certificate| certificate.to_vec()).unwrap_or_default(),
            protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
            stream,
        }
    }
}

impl Tls {
    pub(crate) fn load(server: &Uri, files: &TlsFiles) -> Result<Self, Failure> {
        let roots = match &files.ca {
            Some(file) => roots_in(file)?,
            None => roots_of_the_platform(),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::tls(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match &files.identity {
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_slice(&read(&identity.key)?)
                    .map_err(|_| Failure::input(&identity.key, "there is no private key in PEM in it"))?;
                builder.with_client_auth_cert(certificates(&identity.certificate)?, key).map_err(|error| {
                    let key = identity.key.display();
                    Failure::input(&identity.certificate, format!("it does not go with {key}: {error}"))
                })?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let host = server.host().unwrap_or_default();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| Failure::tls(format!("{host} is no name that a certificate can have")))?;
        Ok(Self { config, name })
    }

    /// Says by ALPN that it speaks these, instead of HTTP/2 alone.
    pub(crate) fn offering(mut self, protocols: &[&[u8]]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        self
    }

    async fn connect(self, socket: Counted) -> io::Result<TlsStream<Counted>> {
        let shaken = self.shake(socket).await?;
        match shaken.protocol.as_deref() {
            Some(b"h2") => Ok(shaken.stream),
            _ => Err(io::Error::other(Refused(Trouble::NoHttp2, None))),
        }
    }

    /// A handshake, whatever is spoken after it.
    ///
    /// # Errors
    ///
    /// With the [`Trouble`] among those below it.
    pub(crate) async fn shake<S>(self, socket: S) -> io::Result<Handshake<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match TlsConnector::from(Arc::new(self.config)).connect(self.name, socket).await {
            Ok(stream) => Ok(Handshake::of(stream)),
            Err(error) => {
                let trouble = match error.kind() {
                    io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe => Trouble::Closed,
                    _ => Trouble::told_by(&error).unwrap_or(Trouble::Other),
                };
                Err(io::Error::other(Refused(trouble, Some(error))))
            }
        }
    }
}

fn roots_in(file: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| Failure::input(file, format!("it is no CA's: {error}")))?;
    }
    Ok(roots)
}

/// What of them cannot be used is left out: one old file should not keep anybody
/// from the servers of all other CAs. Without any, every server is of a CA that
/// is not trusted.
fn roots_of_the_platform() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the CAs that this machine trusts cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| Failure::input(file, error))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| Failure::input(file, "there is no certificate in PEM in it"))
}

/// A connection with or without TLS.
pub(crate) struct Stream {
    link: Link,
    /// Told when something is read for the first time, or nothing can be.
    heard: Option<oneshot::Sender<Result<(), Trouble>>>,
}

enum Link {
    Plain(Counted),
    Tls(Box<TlsStream<Counted>>),
}

impl Stream {
    pub(crate) async fn open(
        socket: Counted,
        tls: Option<Tls>,
        heard: oneshot::Sender<Result<(), Trouble>>,
    ) -> io::Result<Self> {
        let link = match tls {
            Some(tls) => Link::Tls(Box::new(tls.connect(socket).await?)),
            None => Link::Plain(socket),
        };
        Ok(Self { link, heard: Some(heard) })
    }
}

impl Link {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        first: bool,
    ) -> Poll<io::Result<()>> {
        /// What TLS begins an alert with. No frame of HTTP/2 that may come first
        /// does: it would have 1.3 MB.
        const ALERT: [u8; 2] = [0x15, 0x03];
        match self {
            Self::Plain(socket) => {
                let before = buf.filled().len();
                ready!(Pin::new(socket).poll_read(cx, buf))?;
                match first && buf.filled()[before..].starts_with(&ALERT) {
                    true => Poll::Ready(Err(io::Error::other(Trouble::TlsExpected))),
                    false => Poll::Ready(Ok(())),
                }
            }
            Self::Tls(stream) => match ready!(Pin::new(stream).poll_read(cx, buf)) {
                // Who is killed says no farewell. What HTTP/2 has not ended is not
                // taken for whole, so an end is an end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                // With TLS 1.3 the server looks at the client's certificate when
                // the handshake is over for the client.
                Err(error) => Poll::Ready(Err(match Trouble::told_by(&error) {
                    Some(trouble @ (Trouble::CertificateRequired | Trouble::CertificateRefused)) => {
                        io::Error::new(error.kind(), trouble)
                    }
                    _ => error,
                })),
                Ok(()) => Poll::Ready(Ok(())),
            },
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let first = self.heard.is_some();
        let read = ready!(self.link.poll_read(cx, buf, first));
        if let Some(heard) = self.heard.take() {
            let trouble = read.as_ref().err().and_then(|error| Trouble::of(&[error.to_string()]));
            // Nobody listens when it took long.
            let _ = heard.send(trouble.map_or(Ok(()), Err));
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.link {
            Link::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Link::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
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
        match &mut self.link {
            Link::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Link::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }
}

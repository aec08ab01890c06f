//! TLS on incoming connections, with certificates that may change while the server
//! runs.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::Context as _;
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ProtocolVersion, RootCertStore, ServerConfig, ServerConnection,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
    server::{FallibleAccept, TlsStream},
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    connection::{Connection, TlsFacts},
    files,
    settings::TlsFiles,
};

/// The configuration of new connections.
pub(crate) struct Tls {
    files: TlsFiles,
    current: watch::Sender<Arc<ServerConfig>>,
    contents: Contents,
    /// When the first certificate of the chain expires that does, in seconds since 1970.
    expires: Gauge,
}

impl Tls {
    pub(crate) fn load(files: &TlsFiles) -> anyhow::Result<Self> {
        let contents = Contents::read(files)?;
        let (current, _) = watch::channel(contents.config(files)?);
        let expires = Gauge::default();
        expires.set(contents.expires());
        Ok(Self { files: files.clone(), current, contents, expires })
    }

    pub(crate) fn acceptor(&self) -> Acceptor {
        Acceptor(self.current.subscribe())
    }

    /// The metric of when the certificate expires.
    pub(crate) fn expires(&self) -> Gauge {
        self.expires.clone()
    }

    /// Reloads the files when they change, without end. Open connections keep their
    /// configuration.
    pub(crate) async fn follow_files(self) {
        let Self { files, current, contents, expires } = self;
        let take = |contents: &Contents| {
            current.send_replace(contents.config(&files)?);
            expires.set(contents.expires());
            Ok(())
        };
        let read = {
            let files = files.clone();
            move || Contents::read(&files)
        };
        files::follow("TLS certificates", contents, read, take).await;
    }
}

/// The content of the files. It is compared as a whole, because a modification time may
/// stay the same or be set back.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    fn read(TlsFiles { certificate, key, client_ca }: &TlsFiles) -> anyhow::Result<Self> {
        Ok(Self {
            certificate: files::read(certificate)?,
            key: files::read(key)?,
            client_ca: client_ca.as_deref().map(files::read).transpose()?,
        })
    }

    fn expires(&self) -> i64 {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).filter_map(Result::ok);
        let ends = chain.filter_map(|certificate| {
            let (_, certificate) = X509Certificate::from_der(&certificate).ok()?;
            Some(certificate.validity().not_after.timestamp())
        });
        ends.min().unwrap_or_default()
    }

    fn config(&self, files: &TlsFiles) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(ring::default_provider());
        let certificates = certificates(&files.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .with_context(|| format!("{} has no private key in PEM", files.key.display()))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("TLS has no version")?;
        let builder = match files.client_ca.as_ref().zip(self.client_ca.as_ref()) {
            Some((path, pem)) => {
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates(path, pem)? {
                    roots.add(certificate).with_context(|| format!("{} is no CA's", path.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(verifier.context("clients cannot be verified")?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(certificates, key).with_context(|| {
            format!("{} and {} do not go together", files.certificate.display(), files.key.display())
        })?;
        // HTTP/1.1 is only for gRPC-Web.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path, pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is damaged", path.display()))?;
    anyhow::ensure!(!certificates.is_empty(), "{} has no certificate in PEM", path.display());
    Ok(certificates)
}

/// Begins handshakes with the present certificates.
#[derive(Debug, Clone)]
pub(crate) struct Acceptor(watch::Receiver<Arc<ServerConfig>>);

fn facts(connection: &ServerConnection) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        other => other.map(|version| format!("{version:?}")).unwrap_or_default(),
    };
    let suite = connection.negotiated_cipher_suite();
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let subject = certificate.and_then(|certificate| X509Certificate::from_der(certificate).ok());
    TlsFacts {
        version,
        cipher_suite: suite.and_then(|suite| suite.suite().as_str()).unwrap_or_default().to_owned(),
        alpn: connection.alpn_protocol().map(String::from_utf8_lossy).unwrap_or_default().into_owned(),
        server_name: connection.server_name().unwrap_or_default().to_owned(),
        client_certificate: subject.map(|(_, it)| it.subject().to_string()).unwrap_or_default(),
    }
}

/// A connection with or without TLS. The handshake takes place at the first read or
/// write, in the task that serves the connection, so that accepting never waits for a
/// handshake.
pub(crate) enum Link<S> {
    Plain(S),
    Accepting(Box<FallibleAccept<S>>, Arc<Connection>),
    Tls(Box<TlsStream<S>>),
    /// The handshake failed, and an alert is being sent.
    Refused(S, io::Error),
    Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(crate) fn new(stream: S, acceptor: Option<&Acceptor>, info: Arc<Connection>) -> Self {
        match acceptor {
            Some(Acceptor(config)) => {
                let config = config.borrow().clone();
                let accepting = TlsAcceptor::from(config).accept(stream).into_fallible();
                Self::Accepting(Box::new(accepting), info)
            }
            None => Self::Plain(stream),
        }
    }

    /// The stream below TLS, once the handshake is over.
    pub(crate) fn inner(&mut self) -> Option<&mut S> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_mut().0),
            Self::Accepting(..) | Self::Refused(..) | Self::Closed => None,
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut dyn ReadWrite>> {
        if let Self::Accepting(accepting, info) = self {
            *self = match ready!(Pin::new(&mut **accepting).poll(cx)) {
                Ok(stream) => {
                    // Set here only.
                    let _ = info.tls.set(facts(stream.get_ref().1));
                    Self::Tls(Box::new(stream))
                }
                Err((error, stream)) => {
                    let peer = info.peer.map(tracing::field::display);
                    match error.kind() {
                        // Port scanners and health checks do this too.
                        io::ErrorKind::UnexpectedEof => tracing::debug!(peer, %error, "no TLS handshake"),
                        _ => tracing::info!(peer, %error, "a TLS handshake failed"),
                    }
                    Self::Refused(stream, error)
                }
            };
        }
        if let Self::Refused(stream, _) = self {
            // The alert gives the reason, and has to arrive.
            let _ = ready!(Pin::new(stream).poll_shutdown(cx));
        }
        match self {
            Self::Plain(stream) => Poll::Ready(Ok(stream)),
            Self::Tls(stream) => Poll::Ready(Ok(stream)),
            Self::Accepting(..) | Self::Refused(..) | Self::Closed => {
                let error = match std::mem::replace(self, Self::Closed) {
                    Self::Refused(_, error) => error,
                    _ => io::ErrorKind::NotConnected.into(),
                };
                Poll::Ready(Err(error))
            }
        }
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> ReadWrite for S {}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Link<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Link<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Accepting(..) | Self::Refused(..) | Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            _ => true,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.poll_open(cx))?).poll_write_vectored(cx, bufs)
    }
}

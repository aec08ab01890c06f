//! TLS to a server.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::Uri;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, KeyLogFile, ProtocolVersion, RootCertStore,
        SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    },
};

use crate::{CallError, Connect, ConnectError, Kind, TlsError, dial::host};

/// PEM files. They are read for each connection, because they may have changed.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The CAs to trust; by default those of the platform.
    pub ca: Option<PathBuf>,
    /// The client's certificate, for a server that requires one.
    pub identity: Option<Identity>,
    /// Accepts every certificate, so that any peer can pose as the server.
    pub unverified: bool,
}

/// A client certificate.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of its private key.
    pub key: PathBuf,
}

/// The TLS configuration for one server.
#[derive(Debug)]
pub struct Tls {
    config: ClientConfig,
    name: ServerName<'static>,
}

/// The result of a handshake.
#[derive(Debug)]
pub struct Handshake<S = TcpStream> {
    /// The encrypted stream.
    pub stream: TlsStream<S>,
    /// For example `TLSv1.3`.
    pub version: &'static str,
    /// For example `TLS13_AES_256_GCM_SHA384`.
    pub cipher_suite: &'static str,
    /// The server's certificate in DER.
    pub certificate: Vec<u8>,
    /// The protocol that ALPN selected, if any.
    pub protocol: Option<Vec<u8>>,
}

impl<S> Handshake<S> {
    fn of(stream: TlsStream<S>) -> Self {
        let connection = stream.get_ref().1;
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            // rustls supports no other version.
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
    /// TLS for HTTP/2 to a server.
    ///
    /// # Errors
    ///
    /// When a file cannot be used, or when the server's name cannot be in a
    /// certificate.
    pub fn load(server: &Uri, files: &TlsFiles) -> Result<Self, CallError> {
        let roots = match &files.ca {
            Some(file) => roots_in(file)?,
            None => roots_of_the_platform(),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match &files.identity {
            Some(identity) => {
                let key = PrivateKeyDer::from_pem_slice(&read(&identity.key)?)
                    .map_err(|_| CallError::file(&identity.key, "it contains no private key in PEM"))?;
                builder.with_client_auth_cert(certificates(&identity.certificate)?, key).map_err(|error| {
                    let key = identity.key.display();
                    CallError::file(&identity.certificate, format!("it does not match {key}: {error}"))
                })?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        if files.unverified {
            let taken = Arc::new(EveryCertificate(config.crypto_provider().clone()));
            config.dangerous().set_certificate_verifier(taken);
        }
        // Does nothing unless SSLKEYLOGFILE names a file. Wireshark can read that file.
        config.key_log = Arc::new(KeyLogFile::new());
        let host = host(server);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| unusable(format!("{host} is not a valid name for a certificate")))?;
        Ok(Self { config, name })
    }

    /// Offers these protocols by ALPN, instead of only HTTP/2.
    pub fn offering(mut self, protocols: &[&[u8]]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        self
    }

    /// Makes a handshake that has to select HTTP/2.
    pub(crate) async fn connect<S>(self, socket: S) -> Result<TlsStream<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shaken = self.shake(socket).await?;
        match shaken.protocol.as_deref() {
            Some(b"h2") => Ok(shaken.stream),
            _ => Err(TlsError::NoHttp2.into()),
        }
    }

    /// Makes a handshake that may select any protocol.
    ///
    /// # Errors
    ///
    /// The error of the handshake.
    pub async fn shake<S>(self, socket: S) -> Result<Handshake<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match TlsConnector::from(Arc::new(self.config)).connect(self.name, socket).await {
            Ok(stream) => Ok(Handshake::of(stream)),
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe => TlsError::Closed,
                    _ => TlsError::of_rustls(&error).unwrap_or(TlsError::Other),
                };
                Err(ConnectError::new(Connect::Tls(reason), error))
            }
        }
    }
}

/// Accepts every certificate, if the server has its key.
#[derive(Debug)]
struct EveryCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for EveryCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The TLS configuration cannot be used, whatever the server does.
fn unusable(reason: String) -> CallError {
    CallError::new(Kind::Connect(Connect::Tls(TlsError::Other)), reason)
}

fn roots_in(file: &Path) -> Result<RootCertStore, CallError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| CallError::file(file, format!("it is no CA's: {error}")))?;
    }
    Ok(roots)
}

/// Certificates that cannot be used are left out, because one old file must not block
/// the servers of all other CAs. If none is left, every server's CA is untrusted.
fn roots_of_the_platform() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some CAs of this machine cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

fn read(file: &Path) -> Result<Vec<u8>, CallError> {
    fs::read(file).map_err(|error| CallError::file(file, error))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CallError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| CallError::file(file, "it contains no certificate in PEM"))
}

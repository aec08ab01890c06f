//! Why there is no connection.

use std::{error::Error, fmt, io};

use tokio_rustls::rustls::{self, AlertDescription, CertificateError};
use tower::BoxError;

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// The name of the host cannot be resolved.
    NoSuchHost,
    /// Nothing listens at the address.
    Refused,
    /// Nothing answers at the address.
    TimedOut,
    /// TLS failed.
    Tls(TlsError),
    /// Anything else that the network may say.
    Other,
}

impl Connect {
    /// By the I/O error among an error and what is below it.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let kinds = chain(error).filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
        kinds.fold(Self::Other, |found, kind| match kind {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => found,
        })
    }

    /// What most likely went wrong, and what to do.
    pub fn advice(self) -> (&'static str, &'static str) {
        match self {
            Self::NoSuchHost => ("the host name cannot be resolved", "check the spelling of the address"),
            Self::Refused => (
                "nothing listens at that address",
                "check whether the server runs, and the address and the port",
            ),
            Self::TimedOut => (
                "the host is unreachable, or a firewall drops the connection",
                "check the address and the port",
            ),
            Self::Tls(error) => error.advice(),
            Self::Other => ("the network rejected the connection", "see the errors above"),
        }
    }
}

/// An attempt to connect that failed, with what it was seen by.
#[derive(Debug)]
pub struct ConnectError {
    /// Why.
    pub reason: Connect,
    source: Option<BoxError>,
}

impl ConnectError {
    /// With the error that says so.
    pub fn new(reason: Connect, source: impl Into<BoxError>) -> Self {
        Self { reason, source: Some(source.into()) }
    }
}

impl From<TlsError> for ConnectError {
    fn from(error: TlsError) -> Self {
        Self { reason: Connect::Tls(error), source: None }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.reason, &self.source) {
            (Connect::Tls(error), _) => error.fmt(f),
            (_, Some(source)) => source.fmt(f),
            (_, None) => f.write_str("no connection"),
        }
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// An error and those below it, outermost first.
pub(crate) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// What is wrong with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The certificate is too old.
    #[error("the certificate of the server has expired")]
    Expired,
    /// The certificate is too new.
    #[error("the certificate of the server is not valid yet")]
    NotYetValid,
    /// The certificate does not have the name that was called.
    #[error("the certificate of the server is for another name")]
    WrongName,
    /// Nobody who is trusted has signed the certificate.
    #[error("the certificate of the server is from a CA that is not trusted here")]
    UnknownCa,
    /// The certificate has another fault.
    #[error("the certificate of the server is invalid")]
    BadCertificate,
    /// The client has none.
    #[error("the server requires a client certificate, but none is set")]
    CertificateRequired,
    /// The client has another one than the server wants.
    #[error("the server rejects the client's certificate")]
    CertificateRefused,
    /// ALPN says so.
    #[error("the server speaks TLS, but not HTTP/2 over it")]
    NoHttp2,
    /// What came was no TLS.
    #[error("the peer does not speak TLS")]
    NoTls,
    /// What came was TLS, and the client did not speak it.
    #[error("the server expects TLS")]
    TlsExpected,
    /// The connection ended.
    #[error("the connection was closed during the TLS handshake")]
    Closed,
    /// Anything else.
    #[error("the TLS handshake failed")]
    Other,
}

impl TlsError {
    /// The one among an error and what is below it. HTTP/2 keeps only the words of
    /// an error that ends its connection; those are compared as a whole.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        /// What a [`Stream`](crate::Stream) says while it is read.
        const WHILE_READ: [TlsError; 3] =
            [TlsError::CertificateRequired, TlsError::CertificateRefused, TlsError::TlsExpected];
        chain(error).find_map(|error| match error.downcast_ref::<ConnectError>() {
            Some(ConnectError { reason: Connect::Tls(error), .. }) => Some(*error),
            _ => {
                let words = error.downcast_ref::<io::Error>()?.to_string();
                WHILE_READ.into_iter().find(|error| error.to_string() == words)
            }
        })
    }

    /// What an error of rustls means, if it is one.
    pub(crate) fn of_rustls(error: &io::Error) -> Option<Self> {
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

    /// What most likely went wrong, and what to do.
    fn advice(self) -> (&'static str, &'static str) {
        match self {
            Self::Expired => (
                "it was not renewed, or the clock of this machine is wrong",
                "renew it (`fourmodes-server certs --force` makes a new one), or set the clock",
            ),
            Self::NotYetValid => {
                ("the clock of this machine, or of the machine that made it, is wrong", "set the clock")
            }
            Self::WrongName => (
                "the name in --server is not in the certificate, or it is another server",
                "use a name that it contains; `fourmodes-server certs --name HOST` makes a certificate for HOST",
            ),
            Self::UnknownCa => (
                "the server has its own CA, or another server answers in its place",
                "if it is yours, name its CA with --ca FILE, such as the `ca.pem` of `fourmodes-server certs`",
            ),
            Self::BadCertificate => ("it was not made for a server, or is damaged", "see the errors above"),
            Self::CertificateRequired => (
                "the server was started with --client-ca",
                "set a certificate of that CA with --cert FILE and --key FILE",
            ),
            Self::CertificateRefused => (
                "it is from a CA that the server does not accept, has expired, or is not for clients",
                "set a certificate of the server's --client-ca with --cert and --key",
            ),
            Self::NoHttp2 => (
                "it is not a gRPC server, or a proxy that does not forward gRPC: it does not negotiate `h2` by ALPN",
                "check the address and the port",
            ),
            Self::NoTls => (
                "it is a server without TLS, or it does not start with TLS",
                "write http:// instead of https://, or configure TLS on the server (Four Modes: --tls-cert and --tls-key)",
            ),
            Self::TlsExpected => (
                "it was started with a certificate",
                "write https:// instead of http://, with --ca FILE if it has a CA of its own",
            ),
            Self::Closed => (
                "it is a server without TLS, has too many connections, or is stopping",
                "check the port, and try again; without TLS write http://",
            ),
            Self::Other => ("the two sides have no common version or algorithm", "see the errors above"),
        }
    }
}

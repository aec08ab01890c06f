//! A CA, and certificates of it for a server and a client.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use hyper_util::rt::TokioIo;
use server::certs::Request;
use stack::TlsFiles;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{Program, within};

/// In a directory of their own, under the names that `fourmodes-server certs`
/// gives them.
pub struct Certs {
    /// Where the files are.
    pub directory: TempDir,
}

impl Certs {
    /// Good for a year, for this machine.
    pub fn new() -> Self {
        Self::of(&Request::for_a_year(Vec::new()))
    }

    /// As a test wants them.
    pub fn of(request: &Request) -> Self {
        let certs = Self { directory: tempfile::tempdir().unwrap() };
        request.make(certs.directory.path(), false).unwrap();
        certs
    }

    /// Others in their place, of another CA.
    pub fn make_new(&self) {
        Request::for_a_year(Vec::new()).make(self.directory.path(), true).unwrap();
    }

    /// Of a file, such as `ca.pem` or `client-key.pem`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// For a server that asks for no certificate of a client.
    pub fn server(&self) -> TlsFiles {
        TlsFiles { certificate: self.path("server.pem"), key: self.path("server-key.pem"), client_ca: None }
    }

    /// For one that asks for a certificate of this CA.
    pub fn mutual(&self) -> TlsFiles {
        TlsFiles { client_ca: Some(self.path("ca.pem")), ..self.server() }
    }

    /// Read from its file.
    pub fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(name)).unwrap()
    }

    /// Of a client that trusts this CA, and shows its certificate or none.
    pub fn client_config(&self, with_certificate: bool) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate("ca.pem")).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match with_certificate {
            true => {
                let key = PrivateKeyDer::from_pem_file(self.path("client-key.pem")).unwrap();
                builder.with_client_auth_cert(vec![self.certificate("client.pem")], key).unwrap()
            }
            false => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// The same client, ready to connect.
    pub fn client(&self, with_certificate: bool) -> TlsConnector {
        TlsConnector::from(Arc::new(self.client_config(with_certificate)))
    }

    /// A connection for gRPC, made when it is needed.
    pub fn channel(endpoint: Endpoint, address: SocketAddr, client: TlsConnector) -> Channel {
        endpoint.connect_with_connector_lazy(service_fn(move |_| {
            let client = client.clone();
            async move { Self::handshake(address, client).await.map(TokioIo::new) }
        }))
    }

    /// A connection on which TLS has begun, unless one side does not trust the
    /// other.
    pub async fn handshake(
        address: SocketAddr,
        client: TlsConnector,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = within(TcpStream::connect(address)).await?;
        socket.set_nodelay(true)?;
        within(client.connect(ServerName::try_from("localhost").unwrap(), socket)).await
    }

    /// The client's program is to trust this CA.
    pub fn trusted_by(&self, client: Program) -> Program {
        client.arg("--ca").arg(self.path("ca.pem"))
    }

    /// The client's program is to show its certificate.
    pub fn shown_by(&self, client: Program) -> Program {
        client.arg("--cert").arg(self.path("client.pem")).arg("--key").arg(self.path("client-key.pem"))
    }
}

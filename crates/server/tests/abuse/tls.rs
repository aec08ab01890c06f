//! TLS, by a client that means well, and its first word by one that does not.

use std::{net::SocketAddr, sync::Arc};

use hyper_util::rt::TokioIo;
use server::certs::Request;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, ClientConnection, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};
use tonic::transport::{self, Channel, Endpoint};
use tower::service_fn;

use crate::victim::with_windows;

/// A CA, and a server's certificate of it.
pub(crate) struct Certs(TempDir);

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

impl Certs {
    pub(crate) fn new() -> Self {
        let certs = Self(tempfile::tempdir().unwrap());
        Request::for_a_year(Vec::new()).make(certs.0.path(), false).unwrap();
        certs
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// What a client says before the server has said anything.
    pub(crate) fn hello(&self) -> Vec<u8> {
        let mut hello = Vec::new();
        ClientConnection::new(self.client(), name()).unwrap().write_tls(&mut hello).unwrap();
        hello
    }

    pub(crate) async fn channel(&self, address: SocketAddr) -> Result<Channel, transport::Error> {
        let client = TlsConnector::from(self.client());
        let connect = service_fn(move |_| {
            let client = client.clone();
            async move { client.connect(name(), TcpStream::connect(address).await?).await.map(TokioIo::new) }
        });
        with_windows(Endpoint::from_static("https://localhost")).connect_with_connector(connect).await
    }
}

//! TLS, by a client that means well, and its first word by one that does not.

use std::{net::SocketAddr, sync::Arc};

use test_support::Certs;
use tokio_rustls::rustls::{ClientConnection, pki_types::ServerName};
use tonic::transport::{Channel, Endpoint};

use crate::victim::with_windows;

/// What a client says before the server has said anything.
pub(crate) fn hello(certs: &Certs) -> Vec<u8> {
    let mut hello = Vec::new();
    let config = Arc::new(certs.client_config(false));
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(config, name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

pub(crate) fn channel(certs: &Certs, address: SocketAddr) -> Channel {
    let endpoint = with_windows(Endpoint::from_static("https://localhost"));
    Certs::channel(endpoint, address, certs.client(false))
}

//! What is known of a connection.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use http::Extensions;

/// A connection, in the extensions of each of its calls.
#[derive(Debug)]
pub struct Connection {
    /// The number of the connection, from 1.
    pub number: u64,
    /// The peer's address; none for connections other than TCP.
    pub peer: Option<SocketAddr>,
    /// The address that the peer connected to.
    pub local: Option<SocketAddr>,
    /// Set when the handshake of TLS is complete.
    pub tls: OnceLock<TlsFacts>,
}

impl Connection {
    /// The connection that a request came by.
    pub fn of(extensions: &Extensions) -> Option<&Arc<Self>> {
        extensions.get()
    }
}

/// The result of a TLS handshake.
#[derive(Debug)]
pub struct TlsFacts {
    /// Such as `TLSv1.3`.
    pub version: String,
    /// By its name in the registry of IANA.
    pub cipher_suite: String,
    /// The negotiated protocol, if any.
    pub alpn: String,
    /// The server name that the client requested, if any.
    pub server_name: String,
    /// The subject of the client's certificate, if any.
    pub client_certificate: String,
}

//! What is known of a connection.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use http::Extensions;

/// What is known of a connection. Every call on it has this in its extensions.
#[derive(Debug)]
pub struct Connection {
    /// Counts the connections that had a place, from 1.
    pub number: u64,
    /// Unknown when the connection is no TCP.
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

/// What two sides have agreed on in a handshake of TLS.
#[derive(Debug)]
pub struct TlsFacts {
    /// Such as `TLSv1.3`.
    pub version: String,
    /// By its name in the registry of IANA.
    pub cipher_suite: String,
    /// The protocol that both speak, or nothing.
    pub alpn: String,
    /// The name that the client asked for, or nothing.
    pub server_name: String,
    /// The subject of the client's certificate, or nothing.
    pub client_certificate: String,
}

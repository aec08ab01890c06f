//! From an address to a TCP connection.

use std::{future::ready, io, net::SocketAddr};

use http::Uri;
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use tokio::net::TcpStream;
use tower::{Service as _, service_fn};

use crate::{Connect, ConnectError};

/// Whether a server is called over TLS.
pub fn is_tls(server: &Uri) -> bool {
    server.scheme_str() == Some("https")
}

/// The host in an address, an IPv6 address without its brackets.
pub(crate) fn host(server: &Uri) -> &str {
    server.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// The socket addresses of a server.
///
/// # Errors
///
/// When its name cannot be resolved.
pub async fn resolve(server: &Uri) -> io::Result<Vec<SocketAddr>> {
    let default = if is_tls(server) { 443 } else { 80 };
    let port = server.port_u16().unwrap_or(default);
    Ok(tokio::net::lookup_host((host(server), port)).await?.collect())
}

/// A TCP connection to the first of the server's addresses that takes one. An
/// address of the other family is tried as well when one does not answer at once.
///
/// # Errors
///
/// Why there is none. There is no limit of time here.
pub async fn dial(server: &Uri) -> Result<TcpStream, ConnectError> {
    let found = resolve(server).await;
    let found = found.map_err(|error| ConnectError::new(Connect::NoSuchHost, error))?;
    let resolver = service_fn(move |_: Name| ready(io::Result::Ok(found.clone().into_iter())));
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let socket = connector.call(server.clone()).await;
    let socket = socket.map_err(|error| ConnectError::new(Connect::of(&error), error))?.into_inner();
    // On one machine a client that calls a port where nobody listens may be given
    // that port itself. Then it reaches itself, and keeps the server from coming back.
    match (socket.local_addr(), socket.peer_addr()) {
        (Ok(here), Ok(there)) if here == there => {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            Err(ConnectError::new(Connect::Refused, refused))
        }
        _ => Ok(socket),
    }
}

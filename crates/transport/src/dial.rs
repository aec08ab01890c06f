//! From an address to a TCP connection.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use http::Uri;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::{Connect, ConnectError, traffic::Socket};

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

/// A TCP connection to the first of the server's addresses that takes one. When an
/// address does not answer at once, the next one is tried beside it.
///
/// # Errors
///
/// Why there is none. There is no limit of time here.
pub async fn dial(server: &Uri) -> Result<TcpStream, ConnectError> {
    let found = resolve(server).await;
    let found = found.map_err(|error| ConnectError::new(Connect::NoSuchHost, error))?;
    let socket = first_of(found).await.map_err(|error| ConnectError::new(Connect::of(&error), error))?;
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

/// Happy Eyeballs (RFC 8305): the families take turns, and each address has a head
/// start before the next one.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    const HEAD_START: Duration = Duration::from_millis(250);
    let first = addresses.first().copied();
    let is_of_first = |it: &SocketAddr| first.is_some_and(|first| it.is_ipv4() == first.is_ipv4());
    let (mut next, mut other): (Vec<_>, Vec<_>) = addresses.into_iter().rev().partition(is_of_first);
    let mut attempts = JoinSet::new();
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let time = match next.pop().or_else(|| other.pop()) {
            Some(address) => {
                std::mem::swap(&mut next, &mut other);
                attempts.spawn(TcpStream::connect(address));
                HEAD_START
            }
            None => Duration::MAX,
        };
        match timeout(time, attempts.join_next()).await {
            Ok(Some(Ok(Ok(socket)))) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Ok(Some(Ok(Err(error)))) => failed = error,
            Ok(Some(Err(error))) => failed = error.into(),
            Ok(None) => return Err(failed),
            Err(_) => {}
        }
    }
}

/// A connection to a socket of this machine.
#[cfg(unix)]
pub(crate) async fn dial_unix(path: PathBuf) -> Result<Socket, ConnectError> {
    let socket = tokio::net::UnixStream::connect(path).await;
    socket.map(Socket::Right).map_err(|error| ConnectError::new(Connect::of(&error), error))
}

#[cfg(not(unix))]
pub(crate) async fn dial_unix(_: PathBuf) -> Result<Socket, ConnectError> {
    let unsupported = io::Error::from(io::ErrorKind::Unsupported);
    Err(ConnectError::new(Connect::Other, unsupported))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// An address that answers no attempt: the queue of those it has not accepted is full.
    async fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        (address, listener, queued)
    }

    #[tokio::test]
    async fn an_address_that_is_silent_or_refuses_is_passed_over() {
        let (silent, _listener, _queued) = silent().await;
        let refuses = TcpSocket::new_v4().unwrap();
        refuses.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refuses = refuses.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answers = listener.local_addr().unwrap();
        for addresses in [vec![silent, answers], vec![refuses, answers], vec![silent, refuses, answers]] {
            let socket = timeout(Duration::from_secs(60), first_of(addresses)).await.unwrap().unwrap();
            assert_eq!(socket.peer_addr().unwrap(), answers);
        }
        assert_eq!(first_of(vec![refuses]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(first_of(Vec::new()).await.is_err());
    }
}

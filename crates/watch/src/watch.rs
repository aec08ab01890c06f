//! Stands between clients and a server: for each connection of a client one to the
//! server, and the bytes of each passed on as they come.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Uri;
use timeline::Side;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use transport::{Connect, Tls, TlsFiles, dial, is_tls};

use crate::{
    Seen, Taps,
    refuse::refuse,
    seen::{named, other},
    tap::Tap,
};

/// How much the copy holds each way, in bytes; it begins with less.
const MOST: usize = 64 << 10;
const LEAST: usize = 4 << 10;
/// By how much the buffers of all connections may have grown, in bytes: many readers that
/// have stopped hold a buffer each.
const GROWTH: usize = 4 << 20;
/// How many connections there may be.
const CONNECTIONS: usize = 4096;
/// How long a handshake may take, and an attempt to reach the server.
const PATIENCE: Duration = Duration::from_secs(10);

/// What stands between clients and a server.
#[derive(Debug)]
pub struct Watch {
    /// The server.
    pub to: Uri,
    /// What TLS to the server takes.
    pub tls: TlsFiles,
    /// What clients speak TLS with, if they do.
    pub acceptor: Option<Acceptor>,
    /// Who hears of what passes.
    pub taps: Taps,
}

/// What clients speak TLS with.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// Reads a certificate and its private key, both in PEM.
    ///
    /// # Errors
    ///
    /// What is wrong with which file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, (PathBuf, String)> {
        let wrong = |file: &Path, error: &dyn std::fmt::Display| (file.to_owned(), error.to_string());
        let certificates: Vec<_> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| wrong(certificate, &error))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private));
        let mut config = config.map_err(|error| wrong(certificate, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

/// Either end of the copy.
pub(crate) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for S {}
pub(crate) type Socket = Box<dyn ReadWrite>;

impl Watch {
    /// Serves clients, without end. Dropped, it ends all connections.
    pub async fn serve(self, listener: TcpListener) {
        let watch = Arc::new(self);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (client, address) = loop {
                match listener.accept().await {
                    Ok(accepted) => break accepted,
                    // Such as too many open files: the next one may do.
                    Err(_) => sleep(PAUSE).await,
                }
            };
            while connections.try_join_next().is_some() {}
            let tap = watch.taps.one();
            let Ok(place) = places.clone().try_acquire_owned() else {
                tap.note(format!("too many connections: closing one; there are {CONNECTIONS}"));
                continue;
            };
            let watch = watch.clone();
            connections.spawn(async move {
                watch.connection(client, address, tap).await;
                drop(place);
            });
        }
    }

    async fn connection(&self, client: TcpStream, address: SocketAddr, tap: Tap) {
        tap.tell(0, Seen::Connected { client: address.to_string() });
        // It costs a delay at most.
        let _ = client.set_nodelay(true);
        // What is over is in boxes, so that it takes no memory while the connection lives.
        let (mut client, protocol) = match Box::pin(self.accept(client)).await {
            Ok(accepted) => accepted,
            Err(error) => {
                return tap.note(format!("a client at {address} gets no connection: {error}"));
            }
        };
        let mut first = Vec::new();
        let offered = match protocol {
            Some(protocol) => protocol,
            // What to offer to a server with TLS is seen by what the client says first.
            None if is_tls(&self.to) => {
                first.reserve(LEAST);
                match client.read_buf(&mut first).await {
                    Ok(0) | Err(_) => return tap.closed("the client closed the connection"),
                    Ok(_) if first.starts_with(b"PRI ") => b"h2".to_vec(),
                    Ok(_) => b"http/1.1".to_vec(),
                }
            }
            None => Vec::new(),
        };
        match Box::pin(self.reach(offered)).await {
            Ok(server) => copy(client, server, &first, tap).await,
            Err(reason) => {
                let reason = format!("{} is unreachable: {reason}; watch answers in its place", self.to);
                Box::pin(refuse(&mut client, &first, &reason, tap)).await;
            }
        }
    }

    /// With TLS, if clients speak it, and the protocol that was agreed on.
    async fn accept(&self, client: TcpStream) -> Result<(Socket, Option<Vec<u8>>), String> {
        let Some(Acceptor(acceptor)) = &self.acceptor else { return Ok((Box::new(client), None)) };
        match timeout(PATIENCE, acceptor.accept(client)).await {
            Ok(Ok(stream)) => {
                let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
                Ok((Box::new(stream), protocol))
            }
            Ok(Err(error)) => Err(format!("its TLS handshake failed: {error}")),
            Err(_) => Err(format!("its TLS handshake took more than {} s", PATIENCE.as_secs())),
        }
    }

    async fn reach(&self, offered: Vec<u8>) -> Result<Socket, String> {
        let reached = timeout(PATIENCE, async {
            let socket = dial(&self.to).await;
            let socket = socket.map_err(|error| match error.reason {
                Connect::Refused => format!("{error} (is the server running?)"),
                _ => error.to_string(),
            })?;
            if !is_tls(&self.to) {
                return Ok(Box::new(socket) as Socket);
            }
            let tls = Tls::load(&self.to, &self.tls).map_err(|error| error.message)?;
            let shaken = tls.offering(&[&offered]).shake(socket).await.map_err(|error| error.to_string())?;
            match shaken.protocol {
                Some(agreed) if agreed != offered => Err("it negotiates another protocol by ALPN".to_owned()),
                None if offered == b"h2" => Err("it does not negotiate HTTP/2 by ALPN".to_owned()),
                _ => Ok(Box::new(shaken.stream) as Socket),
            }
        });
        reached.await.unwrap_or_else(|_| Err(format!("no connection after {} s", PATIENCE.as_secs())))
    }
}

/// A pause when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(10);

/// Passes on what comes from either side, until both have closed, or one is lost.
async fn copy(client: Socket, server: Socket, first: &[u8], tap: Tap) {
    let (from_client, mut to_client) = tokio::io::split(client);
    let (from_server, mut to_server) = tokio::io::split(server);
    let up = async {
        tap.write(Side::Client, &mut to_server, first).await?;
        tap.half(Side::Client, from_client, &mut to_server).await
    };
    let down = tap.half(Side::Server, from_server, &mut to_client);
    let reason = match tokio::try_join!(up, down) {
        Ok(_) => format!("{} closed the connection", named(tap.first_to_close())),
        Err(reason) => reason,
    };
    tap.closed(&reason);
}

/// What one direction of the copy holds.
struct Buffer(Vec<u8>);

/// By how much all of them have grown, in bytes.
static GROWN: AtomicUsize = AtomicUsize::new(0);

impl Buffer {
    fn new() -> Self {
        Self(vec![0; LEAST])
    }

    /// Doubles it, as long as there is room.
    fn grow(&mut self) {
        let more = self.0.len();
        if more == MOST {
            return;
        }
        if GROWN.fetch_add(more, Relaxed) + more > GROWTH {
            GROWN.fetch_sub(more, Relaxed);
            return;
        }
        self.0 = vec![0; more * 2];
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        GROWN.fetch_sub(self.0.len() - LEAST, Relaxed);
    }
}

impl Tap {
    /// One direction of the copy. All of what was read is written before more is read,
    /// so that a reader that stops stops the writer.
    async fn half(
        &self,
        from: Side,
        mut reader: ReadHalf<Socket>,
        writer: &mut WriteHalf<Socket>,
    ) -> Result<(), String> {
        let mut buffer = Buffer::new();
        loop {
            let read = match reader.read(&mut buffer.0).await {
                // With TLS, who is killed says no farewell.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                read => read.map_err(|error| format!("the connection of {} broke: {error}", named(from)))?,
            };
            if read == 0 {
                break;
            }
            self.write(from, writer, &buffer.0[..read]).await?;
            if read == buffer.0.len() {
                buffer.grow();
            }
        }
        self.half_closed(from);
        // It may be gone by now, which its own direction finds out.
        let _ = writer.shutdown().await;
        Ok(())
    }

    /// Writes all of it on. The decoder sees a piece as soon as it is written, and so
    /// before anything that answers it.
    async fn write(
        &self,
        from: Side,
        writer: &mut WriteHalf<Socket>,
        mut bytes: &[u8],
    ) -> Result<(), String> {
        let to = other(from);
        let broke = |error: io::Error| format!("the connection of {} broke: {error}", named(to));
        while !bytes.is_empty() {
            let written = writer.write(bytes).await.map_err(broke)?;
            let Some(piece) = bytes.split_off(..written).filter(|piece| !piece.is_empty()) else {
                return Err(broke(io::ErrorKind::WriteZero.into()));
            };
            self.see(from, piece);
        }
        writer.flush().await.map_err(broke)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown() -> Buffer {
        let mut buffer = Buffer::new();
        (0..10).for_each(|_| buffer.grow());
        buffer
    }

    #[test]
    fn buffers_grow_as_long_as_all_of_them_together_are_small() {
        let buffers: Vec<_> = (0..1_000).map(|_| grown()).collect();
        let held: usize = buffers.iter().map(|buffer| buffer.0.len()).sum();
        assert_eq!(buffers[0].0.len(), MOST);
        assert_eq!(buffers[999].0.len(), LEAST);
        assert!(held <= 1_000 * LEAST + GROWTH, "{held}");
        drop(buffers);
        assert_eq!(grown().0.len(), MOST);
    }
}

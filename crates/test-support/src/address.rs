//! Addresses with no server of ours behind them.

use std::net::{SocketAddr, TcpListener, TcpStream};

use server::config::Config;
use tokio::{net::TcpSocket, runtime::Runtime};

use crate::BlockingServer;

/// An address at which nothing listens until a server starts there.
pub struct Reserved {
    /// Where that is.
    pub address: SocketAddr,
    socket: TcpSocket,
    runtime: Runtime,
}

impl Reserved {
    /// A free one.
    pub fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { address: socket.local_addr().unwrap(), socket, runtime }
    }

    /// A server begins to listen.
    pub fn start(self) -> BlockingServer {
        let entered = self.runtime.enter();
        let listener = self.socket.listen(64).unwrap();
        drop(entered);
        BlockingServer::on(listener, Config::default(), self.runtime)
    }
}

/// A peer that is no gRPC server: the test takes the connections.
pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nothing listens and nothing can, while the sockets live: it
/// is one end of a connection.
pub fn deaf_address() -> (SocketAddr, [TcpStream; 2]) {
    let (listener, address) = listener();
    let near = TcpStream::connect(address).unwrap();
    let far = listener.accept().unwrap().0;
    (near.local_addr().unwrap(), [near, far])
}

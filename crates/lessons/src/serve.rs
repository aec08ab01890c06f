//! A server for a lesson.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tonic::transport::{
    Channel, Endpoint,
    server::{Router, TcpIncoming},
};

/// A server on a free port of 127.0.0.1. Dropped, it takes no more connections.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// The connections to a free port of 127.0.0.1, and which one it is. To be called
/// within a runtime.
///
/// # Errors
///
/// When there is no free port.
pub fn listen() -> anyhow::Result<(TcpIncoming, SocketAddr)> {
    let incoming =
        TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into()).context("cannot listen on 127.0.0.1")?;
    let address = incoming.local_addr()?;
    Ok((incoming.with_nodelay(Some(true)), address))
}

/// Starts a server.
///
/// # Errors
///
/// As [`listen`].
pub async fn serve(router: Router) -> anyhow::Result<Server> {
    let (incoming, address) = listen()?;
    Ok(Server { address, task: tokio::spawn(router.serve_with_incoming(incoming)) })
}

impl Server {
    /// A client's way to it, without any settings yet.
    ///
    /// # Errors
    ///
    /// None: the address is one.
    pub fn endpoint(&self) -> anyhow::Result<Endpoint> {
        endpoint(self.address)
    }

    /// A channel without any settings.
    ///
    /// # Errors
    ///
    /// When the server is gone.
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        self.endpoint()?.connect().await.context("cannot connect to the lesson's own server")
    }
}

/// A client's way to any address.
///
/// # Errors
///
/// None: an address is a part of a URI.
pub fn endpoint(address: SocketAddr) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

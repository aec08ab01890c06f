//! An unreliable network on 127.0.0.1, for lessons that need one.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    select,
    sync::watch,
    task::JoinHandle,
};

/// A network path to a server. Dropping it closes the path.
#[derive(Debug)]
pub struct Network {
    /// The address that a client connects to.
    pub address: SocketAddr,
    state: watch::Sender<State>,
    /// The number of open connections.
    open: watch::Sender<usize>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    cuts: u32,
    up: bool,
    silent: bool,
}

impl Network {
    /// Opens a path to a server.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn to(server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen")?;
        let address = listener.local_addr()?;
        let (state, seen) = watch::channel(State { cuts: 0, up: true, silent: false });
        let open = watch::Sender::new(0);
        let opened = open.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, seen.clone(), opened.clone()));
            }
        });
        Ok(Self { address, state, open, task })
    }

    /// Carries nothing from now on, and leaves all connections open.
    pub fn fall_silent(&self) {
        self.state.send_modify(|state| state.silent = true);
    }

    /// Ends all connections, and returns when they have ended. New connections are
    /// carried only when the network is [up](Self::go_up) again.
    pub async fn go_down(&self) {
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.up = false;
        });
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Carries connections again.
    pub fn go_up(&self) {
        self.state.send_modify(|state| {
            state.up = true;
            state.silent = false;
        });
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Counts an open connection.
struct Open(watch::Sender<usize>);

impl Open {
    fn new(open: watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// Carries a connection as long as the network is up.
async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    mut seen: watch::Receiver<State>,
    open: watch::Sender<usize>,
) {
    let Ok(State { cuts, .. }) = seen.wait_for(|state| state.up).await.map(|state| *state) else { return };
    let _open = Open::new(open);
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    select! {
        // The first branch has priority, so that nothing passes after it is due.
        biased;
        _ = seen.wait_for(|state| state.silent || state.cuts != cuts) => {}
        _ = copy_bidirectional(&mut client, &mut server) => return,
    }
    // Both connections stay open, and nothing reads from them.
    let _ = seen.wait_for(|state| state.cuts != cuts).await;
}

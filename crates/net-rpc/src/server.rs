//! Many connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::connection::{Call, ConnectionError, Limits, serve_connection};
use crate::registry::Registry;

/// What a server gives all connections.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Of each connection.
    pub connection: Limits,
    /// Connections at a time. At the limit the server accepts no further one. Default: 1,024.
    pub connections: usize,
    /// How long open calls have after the shutdown. Default: 10 seconds.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { connection: Limits::default(), connections: 1_024, drain: Duration::from_secs(10) }
    }
}

/// What happens on a server.
#[derive(Debug)]
pub enum Event<'a> {
    /// A connection begins.
    Opened,
    /// A call has been answered.
    Called(Call<'a>),
    /// A connection has ended. One that is dropped has no such event.
    Closed(Result<(), ConnectionError>),
    /// A connection could not be accepted. The server goes on after a moment.
    NotAccepted(std::io::Error),
}

/// Serves until `shutdown` completes: then accepts no more, and answers the calls that are open.
/// `observe` is called with the peer, and must not block. Returns how many connections had calls left
/// when [`ServerLimits::drain`] was over.
///
/// Dropping the future drops all connections.
pub async fn serve(
    listener: TcpListener,
    registry: Arc<Registry>,
    limits: ServerLimits,
    observe: impl Fn(Option<SocketAddr>, Event<'_>) + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let (limits, observe) = (Arc::new(limits), Arc::new(observe));
    let room = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            while connections.try_join_next().is_some() {}
            // It is never closed.
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let (io, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    observe(None, Event::NotAccepted(error));
                    // Out of descriptors: some have to be closed first.
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Answers are small, and a client waits for each. Without it they are late, not lost.
            let _ = io.set_nodelay(true);
            let (registry, limits, observe) =
                (Arc::clone(&registry), Arc::clone(&limits), Arc::clone(&observe));
            let mut stopped = stopped.clone();
            connections.spawn(async move {
                observe(Some(peer), Event::Opened);
                let called = |call: Call<'_>| observe(Some(peer), Event::Called(call));
                let stopped = async move { drop(stopped.changed().await) };
                let ended = serve_connection(io, &registry, &limits.connection, called, stopped).await;
                observe(Some(peer), Event::Closed(ended));
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
    drop((listener, stop));
    let all = async { while connections.join_next().await.is_some() {} };
    // What is left is dropped with the set.
    let _ = timeout(limits.drain, all).await;
    connections.len()
}

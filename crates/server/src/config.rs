//! What the server may rely on.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use shared_proto::Mode;

pub use crate::domain::feed::Retention;

/// The settings of one server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the binary listens. [`serve`](crate::serve) gets its listener.
    pub listen: SocketAddr,
    /// How long open calls may go on after shutdown began.
    pub grace: Duration,
    /// Where the state is kept.
    pub data: Data,
    /// After so long without news a stream says that it is alive.
    pub heartbeat: Duration,
    /// How much of a history is kept, of each room and of the quotes.
    pub retention: Retention,
    /// Seed of the simulated quotes.
    pub quotes_seed: u64,
    /// The modes to serve; the others answer UNIMPLEMENTED and say so.
    pub modes: Vec<Mode>,
}

/// Where a server keeps its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In memory and in a temporary directory: gone with the server.
    Memory,
    /// In a directory that is this server's own.
    Directory(PathBuf),
}

impl Default for Config {
    /// All modes, on a free port of the loopback interface, with throw-away
    /// state.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            grace: Duration::from_secs(10),
            data: Data::Memory,
            heartbeat: Duration::from_secs(5),
            retention: Retention::default(),
            quotes_seed: 1,
            modes: Mode::ALL.to_vec(),
        }
    }
}

//! What the server may rely on.

use std::{net::SocketAddr, time::Duration};

use shared_proto::Mode;

/// The settings of one server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the binary listens. [`serve`](crate::serve) gets its listener.
    pub listen: SocketAddr,
    /// How long open calls may go on after shutdown began.
    pub grace: Duration,
    /// Seed of the simulated quotes.
    pub quotes_seed: u64,
    /// The modes to serve; the others answer UNIMPLEMENTED and say so.
    pub modes: Vec<Mode>,
}

impl Default for Config {
    /// All modes, on a free port of the loopback interface.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            grace: Duration::from_secs(10),
            quotes_seed: 1,
            modes: Mode::ALL.to_vec(),
        }
    }
}

//! The servers that share a store.

use std::collections::BTreeSet;

use tokio::sync::watch;

use crate::platform;

/// Which of them are alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    /// Their numbers.
    pub servers: BTreeSet<u64>,
    /// The highest number that a server had when these were found.
    pub known: u64,
}

/// What one server knows of itself and the others. Each start of a server has another
/// number.
#[derive(Debug, Clone)]
pub struct Peers {
    me: u64,
    living: Option<watch::Receiver<Living>>,
}

impl Peers {
    /// Of a server that has its store to itself. Those before it are dead.
    pub fn alone() -> Self {
        let now = platform::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { me: u64::try_from(now.as_nanos()).unwrap_or_default(), living: None }
    }

    /// Of a server that shares its store, and has this number.
    pub fn sharing(me: u64, living: watch::Receiver<Living>) -> Self {
        Self { me, living: Some(living) }
    }

    /// The number of this server.
    pub fn me(&self) -> u64 {
        self.me
    }

    /// Whether other servers may use the store.
    pub fn are_there(&self) -> bool {
        self.living.is_some()
    }

    /// Whether a server will never change anything again.
    pub fn is_dead(&self, server: u64) -> bool {
        match &self.living {
            None => server != self.me,
            Some(living) => {
                let living = living.borrow();
                server <= living.known && !living.servers.contains(&server)
            }
        }
    }

    /// Comes back when some have died or come.
    pub async fn changed(&mut self) {
        if let Some(living) = &mut self.living
            && living.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Servers from number 1 on, and what says which of them live.
#[cfg(test)]
pub(crate) fn servers<const COUNT: usize>() -> (watch::Sender<Living>, [Peers; COUNT]) {
    let known = COUNT as u64;
    let living = watch::Sender::new(Living { servers: (1..=known).collect(), known });
    let peers = std::array::from_fn(|n| Peers::sharing(n as u64 + 1, living.subscribe()));
    (living, peers)
}

#[cfg(test)]
pub(crate) fn kill(living: &watch::Sender<Living>, server: u64) {
    living.send_modify(|living| _ = living.servers.remove(&server));
}

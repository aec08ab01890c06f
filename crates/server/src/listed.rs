//! What servers that share a state say of themselves, for clients.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use grpc_wire::Mode;
use stack::Activity;
use tokio_util::sync::CancellationToken;

use crate::config::Advertise;

/// A server, as clients learn of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) url: String,
    pub(crate) open_calls: u64,
    pub(crate) draining: bool,
}

/// Where this server is, once it serves, and what it does.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// `None` when no address is good for clients.
    url: OnceLock<Option<String>>,
    activity: Arc<Activity>,
    draining: CancellationToken,
}

impl Own {
    pub(crate) fn new(activity: Arc<Activity>, draining: CancellationToken) -> Self {
        Self { url: OnceLock::new(), activity, draining }
    }

    /// From now on the server has an address for clients, or has none. Clients cannot call
    /// an address that stands for all addresses of a machine.
    pub(crate) fn advertise(&self, advertise: &Advertise, scheme: &str, listener: Option<SocketAddr>) {
        let url = match advertise {
            Advertise::Url(url) => Some(url.clone()),
            Advertise::Nothing => None,
            Advertise::Listener => listener
                .filter(|address| !address.ip().is_unspecified())
                .map(|address| format!("{scheme}://{address}")),
        };
        self.url.get_or_init(|| url);
    }

    pub(crate) fn listed(&self) -> Option<Listed> {
        let url = self.url.get()?.clone()?;
        let open_calls = Mode::ALL.map(|mode| self.activity.counts(mode).calls_open).iter().sum();
        Some(Listed { url, open_calls, draining: self.draining.is_cancelled() })
    }
}

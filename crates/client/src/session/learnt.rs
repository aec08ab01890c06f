//! Servers that the user did not name: a server that the user named says which others
//! share its state.
//!
//! Such a server counts as another address of the server that named it. So it needs the
//! same scheme, and with TLS a certificate for the name that the user gave. It gets no call
//! and no token before it says that it shares the state.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, Weak, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use http::Uri;
use shared_proto::{
    fourmodes::v1::{
        WatchServersRequest, WatchServersResponse, servers_service_client::ServersServiceClient,
    },
    limits::{ADVERTISED_BYTES, MONITORING_HEARTBEAT},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request, Status, body::Body};
use tower::Service;
use transport::{Channel, Place, Silence};

use super::network::{Network, lock, state_in};

/// The list of these servers.
const LIST: usize = usize::MAX;

/// Maximum number of them.
const MOST: usize = 100;

/// Listens to one server. It has ended when the stream has.
pub(super) type Listening = Mutex<Option<AbortOnDropHandle<()>>>;

/// A channel to a server whose answers say which state it shares, if any.
#[derive(Clone)]
pub(crate) struct Heard {
    pub(super) channel: Channel,
    pub(super) server: usize,
    pub(super) network: Arc<Network>,
}

impl Service<http::Request<Body>> for Heard {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.channel.call(request);
        let Self { channel, server, network } = self.clone();
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(state) = state_in(answer.headers()) {
                network.heard(server, channel, state);
            }
            Ok(answer)
        })
    }
}

impl Network {
    /// A server has answered that shares this state. Where the run may go on at others, it
    /// is asked for them. When that stream ends, the next answer leads to a new one.
    fn heard(self: &Arc<Self>, server: usize, channel: Channel, state: String) {
        self.set_state(server, Some(state));
        if !self.goes_on_elsewhere.load(Relaxed) {
            return;
        }
        let mut listening = lock(&self.listening);
        if listening.as_ref().is_none_or(|listening| listening.is_finished()) {
            let listen = listen(Arc::downgrade(self), server, channel);
            *listening = Some(AbortOnDropHandle::new(tokio::spawn(listen)));
        }
    }

    fn uris(&self) -> Vec<Uri> {
        let servers = lock(&self.servers);
        servers.numbers().filter_map(|server| Some(servers.place(server)?.uri.clone())).collect()
    }

    pub(super) fn learn(&self, from: usize, told: WatchServersResponse) {
        let Some(teller) = lock(&self.servers).place(from).cloned() else { return };
        if self.state(from).as_ref() != Some(&told.state) {
            return;
        }
        let authority = teller.authority.as_ref().or(teller.uri.authority());
        let mut places = Vec::new();
        for server in told.servers.into_iter().filter(|server| !server.draining).take(MOST) {
            if server.answering {
                places.push(teller.clone());
            } else if server.url.len() <= ADVERTISED_BYTES
                && let Ok(uri) = crate::config::server_uri(&server.url)
                && uri.scheme() == teller.uri.scheme()
                // Another machine cannot mean what listens on this one.
                && (is_here(&teller.uri) || !is_here(&uri))
                && !lock(&self.servers).is_elsewhere(&uri, LIST)
            {
                places.push(Place { uri, authority: authority.cloned() });
            }
        }
        let before = self.uris();
        self.set(LIST, places, Some(&told.state));
        let uris = self.uris();
        if before != uris {
            let uris: Vec<_> = uris.iter().map(ToString::to_string).collect();
            self.timeline.note(&format!("Servers now: {}", uris.join(", ")));
        }
    }
}

fn is_here(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host.parse::<IpAddr>().map_or_else(
        |_| host.eq_ignore_ascii_case("localhost"),
        |ip| ip.to_canonical().is_loopback() || ip.is_unspecified(),
    )
}

/// Does not keep the network: it ends with the run.
async fn listen(network: Weak<Network>, server: usize, channel: Channel) {
    let mut request = Request::new(WatchServersRequest {});
    request
        .extensions_mut()
        .insert(Silence { head: 3 * MONITORING_HEARTBEAT, frame: 3 * MONITORING_HEARTBEAT });
    let mut told = match ServersServiceClient::new(channel).watch_servers(request).await {
        Ok(told) => told.into_inner(),
        // An older server, or one that does not tell this client.
        Err(status) if [Code::Unimplemented, Code::PermissionDenied].contains(&status.code()) => {
            return std::future::pending().await;
        }
        Err(_) => return,
    };
    while let Ok(Some(told)) = told.message().await
        && let Some(network) = network.upgrade()
    {
        network.learn(server, told);
    }
}

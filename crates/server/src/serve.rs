//! The server as a function: everything it needs comes in as an argument, so a
//! test runs it like `main` does.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use domain::store::Store;
use grpc_wire::Mode;
use http::HeaderName;
use shared_proto::{FILE_DESCRIPTOR_SET, RESOURCE_NAME_HEADER, STATE_HEADER};
use stack::{Health, Settings, Stack};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Notify, watch},
};
use tokio_stream::Stream;
use tokio_util::sync::DropGuard;
use tonic::transport::server::Connected;

use crate::{
    config::{Advertise, Config},
    listed::Own,
    net_rpc, page, services,
    store::State,
};

/// Serves `config.modes` on `listener` until `shutdown` completes and every
/// call has ended or `config.stack.grace` is over.
///
/// Dropping the future stops accepting. What is still open after the grace
/// period lives until the runtime is dropped, which for the binary is at once.
///
/// # Errors
///
/// Those of [`Ready::open`] and [`Ready::serve`].
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    Ready::open(config).await?.serve(listener, shutdown).await
}

/// Listens on the address of an option.
pub(crate) async fn listen(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    let listening = TcpListener::bind(address).await;
    listening.with_context(|| {
        format!("cannot listen on {address}; choose another address with {option}, port 0 for a free port")
    })
}

/// A server that may begin: its files were read and its state is open.
pub struct Ready {
    stack: Stack,
    modes: Vec<Mode>,
    workers: usize,
    /// What is not kept is removed with it.
    state: State,
    own: Arc<Own>,
    advertise: Advertise,
    scheme: &'static str,
    /// What is left of the tasks when this is dropped goes on after the next
    /// start.
    _stopped: DropGuard,
}

impl Ready {
    /// Reads the files, opens the state and puts the services together.
    ///
    /// # Errors
    ///
    /// When one of them cannot be used, or nothing can listen for those who ask
    /// for metrics.
    pub async fn open(config: Config) -> anyhow::Result<Self> {
        let grpc_web_headers = vec![HeaderName::from_static(RESOURCE_NAME_HEADER)];
        // A log that is rotated is two files for a moment.
        let open_files = 2 * config.open_files;
        let settings = Settings { grpc_web_headers, open_files, ..config.stack.clone() };
        let mut stack = Stack::open(settings, &[FILE_DESCRIPTOR_SET]).await?;
        let own = Arc::new(Own::new(stack.activity(), stack.draining()));
        let mut state = match &config.store {
            Some(url) => State::share(url, own.clone()).await?,
            None => State::open(&config.data)?,
        };
        if config.stack.metrics.is_some() {
            state.measure(stack.metrics());
        }
        let stop_tasks = stack.draining();
        let stopped = stop_tasks.clone().drop_guard();
        services::add(&mut stack, &config, &state, own.clone(), stop_tasks.clone()).await?;
        if let Some(address) = config.page {
            let listener = listen(address, "--page").await?;
            page::add(&mut stack, listener, &config.page_hosts)?;
        }
        if let Some(address) = config.net_rpc {
            let listener = listen(address, "--net-rpc").await?;
            net_rpc::add(&mut stack, listener, &config.stack)?;
        }
        let health = stack.health();
        if let Some(identity) = state.identity() {
            health.header(STATE_HEADER, identity.parse().context("the database has no identity")?);
        }
        let (store, failed, works) = (state.store.clone(), state.failed.clone(), state.works());
        tokio::spawn(stop_tasks.run_until_cancelled_owned(async move {
            match works {
                Some(works) => follow_database(works, health).await,
                None => follow(store, failed, health).await,
            }
        }));
        let Config { modes, advertise, stack: Settings { workers, tls, .. }, .. } = config;
        let scheme = if tls.is_some() { "https" } else { "http" };
        Ok(Self { stack, modes, workers, state, own, advertise, scheme, _stopped: stopped })
    }

    /// Serves on `listener`, by as many threads as the settings say, until
    /// `shutdown` completes and every call has ended or the grace period is over.
    ///
    /// # Errors
    ///
    /// As [`Stack::serve`].
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        self.own.advertise(&self.advertise, self.scheme, listener.local_addr().ok());
        let shares = self.state.identity().is_some();
        if shares && self.advertise == Advertise::Listener && self.own.listed().is_none() {
            tracing::warn!(
                "clients of other servers cannot learn the address of this server, because it listens on \
                 every address; set it with --advertise"
            );
        }
        self.begins();
        let dead = self.state.dead();
        let shutdown = async {
            tokio::select! { () = shutdown => {}, () = dead.cancelled() => {} }
        };
        let served = self.stack.serve(listener, shutdown).await;
        let is_dead = dead.is_cancelled();
        self.state.close().await;
        ensure!(!is_dead, "{DEAD}");
        served
    }

    /// [`serve`](Self::serve), on connections of any kind, in this task's runtime.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn serve_connections<C>(
        self,
        connections: impl Stream<Item = io::Result<C>>,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()>
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        self.begins();
        self.stack.serve_connections(connections, shutdown).await
    }

    fn begins(&self) {
        let modes = self.modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ");
        tracing::info!(%modes, workers = self.workers, "serving");
    }
}

const DEAD: &str = "another server has declared this one dead, since PostgreSQL had not heard of it for too \
                    long; start it again";

/// Health follows the database: a server that can commit nothing is of no use.
async fn follow_database(mut works: watch::Receiver<bool>, health: Health) {
    while works.changed().await.is_ok() {
        health.serving(*works.borrow_and_update());
    }
}

/// Health follows the store: a server that can keep nothing is of no use.
async fn follow(store: Arc<dyn Store>, failed: Arc<Notify>, health: Health) {
    const PAUSE: Duration = Duration::from_secs(1);
    // Opens the file again, if it can be.
    let works = async || store.get("").await.is_ok();
    loop {
        failed.notified().await;
        if works().await {
            continue;
        }
        health.serving(false);
        while !works().await {
            tokio::time::sleep(PAUSE).await;
        }
        health.serving(true);
    }
}

//! The server as a function: everything it needs comes in as an argument, so a
//! test runs it like `main` does.

use std::{io, sync::Arc};

use anyhow::Context as _;
use grpc_wire::{Mode, limits};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};
use tonic::{
    service::Routes,
    transport::{
        Server,
        server::{self as transport, TcpIncoming},
    },
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    activity::Activity,
    config::{Config, Limits},
    connections::{Admitted, Guard, Guarded, admit},
    layers::{self, Layers, Methods},
    metrics::{self, Metrics},
    services::Services,
    store::{State, Timed},
    tls::Tls,
    workers::Workers,
};

/// Serves `config.modes` on `listener` until `shutdown` completes and every
/// call has ended or `config.grace` is over.
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

/// A server that may begin: its files were read and its state is open.
pub struct Ready {
    config: Config,
    connected: Connected,
    health: HealthReporter,
    /// The services that health knows.
    names: Vec<&'static str>,
    tls: Option<Tls>,
    /// What is not kept is removed with it.
    _state: State,
    _scraped: Option<AbortOnDropHandle<()>>,
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
        let tls = config.tls.as_ref().map(Tls::load).transpose().context("TLS cannot be used")?;
        let activity = Arc::new(Activity::new());
        let draining = CancellationToken::new();
        let methods = Arc::new(Methods::load().context("the descriptors are damaged")?);
        let metrics = Arc::new(Metrics::new(methods.iter()));
        let stack = layers::stack(&config, &methods, activity.clone(), &metrics, draining.clone());
        let scraped = match config.metrics {
            Some(address) => {
                let listening = metrics::listen(address, metrics.clone()).await;
                let answering = listening.with_context(|| format!("metrics: cannot listen on {address}"))?;
                Some(AbortOnDropHandle::new(tokio::spawn(answering)))
            }
            None => None,
        };
        let health = HealthReporter::new();
        let mut state = State::open(&config.data)?;
        if config.metrics.is_some() {
            state.store = Arc::new(Timed { store: state.store, commits: metrics.commits.clone() });
        }
        let stop_tasks = draining.child_token();
        let stopped = stop_tasks.clone().drop_guard();
        let services = Services::open(&config, &state, activity, methods, stop_tasks).await?;
        let names = services.names.clone();
        let routes = services.with_health_and_reflection(&health).await?;
        let Limits { first_byte, handshake, headers, idle, .. } = config.limits;
        let tls_of_connections = tls.as_ref().map(Tls::acceptor);
        let guard = Guard { first_byte, handshake, headers, idle, tls: tls_of_connections, metrics };
        let connected = Connected { limits: config.limits, guard, stack, routes, draining };
        Ok(Self {
            config,
            connected,
            health,
            names,
            tls,
            _state: state,
            _scraped: scraped,
            _stopped: stopped,
        })
    }

    /// Serves on `listener`, by `config.workers`, until `shutdown` completes and
    /// every call has ended or `config.grace` is over.
    ///
    /// # Errors
    ///
    /// When the listener fails. What goes wrong on a connection ends that
    /// connection only.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
        if self.config.workers == 1 {
            return self.serve_connections(connections, shutdown).await;
        }
        let connected = self.connected.clone();
        let workers =
            Workers::start(self.config.workers, move |connections| connected.clone().serve(connections));
        let workers = workers.context("the workers cannot be started")?;
        let serving = workers.serve(self.connected.admit(connections), self.connected.draining.clone());
        self.until(serving, shutdown).await
    }

    /// [`serve`](Self::serve), on connections of any kind, in this task's runtime.
    ///
    /// # Errors
    ///
    /// Likewise.
    pub async fn serve_connections<C>(
        self,
        connections: impl Stream<Item = io::Result<C>>,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()>
    where
        C: AsyncRead + AsyncWrite + transport::Connected + Unpin + Send + 'static,
    {
        let serving = self.connected.clone().serve(self.connected.admit(connections));
        self.until(serving, shutdown).await
    }

    async fn until(
        self,
        serving: impl Future<Output = anyhow::Result<()>>,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let Self { config, connected, health, names, tls, _state, _scraped, _stopped } = self;
        tracing::info!(modes = %mode_names(&config.modes), workers = config.workers, "serving");
        let shutdown = async {
            shutdown.await;
            tracing::info!(grace = ?config.grace, "shutting down: streams end, unary calls finish");
            // First, so that who watches the health learns it before the watch ends.
            for name in names.into_iter().chain([WHOLE_SERVER]) {
                health.set_service_status(name, ServingStatus::NotServing).await;
            }
            connected.draining.cancel();
            tokio::time::sleep(config.grace).await;
        };
        let renewal = async {
            let certificates = async {
                if let Some(tls) = tls {
                    tls.follow_files().await;
                }
            };
            let tokens = async {
                if let Some(tokens) = config.tokens.clone() {
                    tokens.follow_file().await;
                }
            };
            tokio::join!(certificates, tokens, std::future::pending())
        };
        tokio::select! {
            ((), (), ()) = renewal => Ok(()),
            served = serving => {
                tracing::info!("stopped: every call has ended");
                served
            }
            () = shutdown => {
                tracing::warn!("the grace period is over: what is still open is cut");
                Ok(())
            }
        }
    }
}

/// What every connection is connected to.
#[derive(Clone)]
struct Connected {
    limits: Limits,
    guard: Guard,
    stack: Layers,
    routes: Routes,
    draining: CancellationToken,
}

impl Connected {
    fn admit<C, S>(&self, accepted: S) -> impl Stream<Item = Admitted<C>> + use<C, S>
    where
        S: Stream<Item = io::Result<C>>,
    {
        admit(self.limits.connections, self.guard.metrics.clone(), accepted)
    }

    /// Until it is draining and every call on these connections has ended.
    async fn serve<C>(self, connections: impl Stream<Item = Admitted<C>>) -> anyhow::Result<()>
    where
        C: AsyncRead + AsyncWrite + transport::Connected + Unpin + Send + 'static,
    {
        let Self { limits, guard, stack, routes, draining } = self;
        Server::builder()
            .accept_http1(true)
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .max_frame_size(limits::FRAME_SIZE)
            .max_concurrent_streams(limits.streams)
            .http2_max_header_list_size(limits.headers)
            // Unset, both are without a limit.
            .http2_max_pending_accept_reset_streams(Some(20))
            .http2_max_local_error_reset_streams(Some(1024))
            .http2_keepalive_interval(Some(limits.keepalive_interval))
            .http2_keepalive_timeout(Some(limits.keepalive_timeout))
            .layer(stack)
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                connections.map(|admitted| Ok::<_, io::Error>(Guarded::new(admitted, &guard))),
                draining.cancelled_owned(),
            )
            .await
            .context("the listener failed")
    }
}

/// The name under which health knows the server itself.
const WHOLE_SERVER: &str = "";

fn mode_names(modes: &[Mode]) -> String {
    modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ")
}

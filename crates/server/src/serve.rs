//! The server as a function: everything it needs comes in as an argument, so a
//! test runs it like `main` does.

use std::{convert::Infallible, io, path::Path, sync::Arc};

use anyhow::Context as _;
use shared_proto::{
    Mode,
    bytestream::byte_stream_server::ByteStreamServer,
    fourmodes::v1::{
        bidi_streaming_service_server::BidiStreamingServiceServer,
        client_streaming_service_server::ClientStreamingServiceServer, measure_service_server,
        probe_service_server, server_streaming_service_server::ServerStreamingServiceServer,
        unary_service_server::UnaryServiceServer,
    },
    limits,
    testing::test_service_server,
    tutorial::{
        greeter::greeter_server::GreeterServer, streaming_demo::stream_service_server::StreamServiceServer,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    runtime::Handle,
};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};
use tonic::{
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::{
        Server,
        server::{self as transport, TcpIncoming},
    },
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server as reflection;

use uuid::Uuid;

use crate::{
    activity::Activity,
    config::{Config, Limits},
    connections::{Admitted, Guard, Guarded, admit},
    domain::{
        collector::Collector,
        documents::Documents,
        logs::Logs,
        market::Market,
        rooms::Rooms,
        tasks::{OpenResource, Tasks},
        uploads::Uploads,
    },
    extra::{byte_stream::ByteStreams, interop, measure, not_served::NotServed, probe, tutorial::Tutorial},
    layers::{self, Layers, Methods},
    metrics::{self, Metrics},
    modes::{
        bidi_streaming::BidiStreaming, client_streaming::ClientStreaming, server_streaming::ServerStreaming,
        unary::Unary,
    },
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
        let uploads = Uploads::open(state.store.clone(), state.files(), config.uploads).await;
        let uploads = uploads.context("the uploads of an earlier run cannot be read; see --data-dir")?;
        let stop_tasks = draining.child_token();
        let stopped = stop_tasks.clone().drop_guard();
        let tasks = Tasks::open(state.store.clone(), uploaded_files(uploads.clone()), stop_tasks)
            .await
            .context("the tasks cannot be taken up again")?;
        let mut services = Services::new(&config, activity, &state, tasks, uploads)?;
        let instance_id: Arc<str> = Uuid::new_v4().to_string().into();
        services.routes.add_service(interop::service(instance_id.clone(), config.limits.message));
        services.routes.add_service(measure::service());
        services.routes.add_service(probe::service(instance_id, config.limits, methods));
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

/// By the service, since a layer has a limit for every message.
const UNLIMITED: usize = usize::MAX;

/// Served with every mode.
const OWN_TO_EVERY_SERVER: [&str; 6] = [
    measure_service_server::SERVICE_NAME,
    probe_service_server::SERVICE_NAME,
    test_service_server::SERVICE_NAME,
    tonic_health::pb::health_server::SERVICE_NAME,
    tonic_reflection::pb::v1::server_reflection_server::SERVICE_NAME,
    tonic_reflection::pb::v1alpha::server_reflection_server::SERVICE_NAME,
];

/// What the server offers, and under which names.
struct Services {
    served: Vec<Mode>,
    routes: RoutesBuilder,
    names: Vec<&'static str>,
}

impl Services {
    fn new(
        config: &Config,
        activity: Arc<Activity>,
        state: &State,
        tasks: Tasks,
        uploads: Uploads,
    ) -> anyhow::Result<Self> {
        let served = config.modes.clone();
        let market = Market::new(state.store.clone(), config.quotes_seed, config.retention);
        let unary =
            Unary { activity, tasks: tasks.clone(), served: served.clone(), uploads: uploads.clone() };
        let server_streaming = ServerStreaming {
            market: Arc::new(market),
            tasks,
            logs: config.log_root.as_deref().map(open_logs).transpose()?,
            heartbeat: config.heartbeat,
        };
        let collector = Collector::new(state.store.clone());
        let client_streaming = ClientStreaming { collector: Arc::new(collector) };
        let rooms = Rooms::new(state.store.clone(), config.retention);
        let documents = Documents::new(state.store.clone());
        let bidi_streaming = BidiStreaming { rooms: Arc::new(rooms), documents: Arc::new(documents) };
        let mut services = Self { served, routes: RoutesBuilder::default(), names: Vec::new() };
        services.add(Mode::Unary, UnaryServiceServer::new(unary));
        services.add(Mode::Unary, GreeterServer::new(Tutorial));
        services.add(Mode::ServerStreaming, ServerStreamingServiceServer::new(server_streaming));
        services.add(Mode::ServerStreaming, StreamServiceServer::new(Tutorial));
        services.add(
            Mode::ClientStreaming,
            ClientStreamingServiceServer::new(client_streaming).max_decoding_message_size(UNLIMITED),
        );
        services.add(
            Mode::BidiStreaming,
            BidiStreamingServiceServer::new(bidi_streaming).max_decoding_message_size(UNLIMITED),
        );
        services.add_byte_stream(uploads);
        Ok(services)
    }

    /// A service of two modes: it is there with either, and says for itself
    /// which of its methods are not served.
    fn add_byte_stream(&mut self, uploads: Uploads) {
        let byte_streams = ByteStreams { served: self.served.clone(), uploads };
        let service = ByteStreamServer::new(byte_streams).max_decoding_message_size(UNLIMITED);
        if ByteStreams::MODES.iter().any(|mode| self.served.contains(mode)) {
            self.names.push(<ByteStreamServer<ByteStreams> as NamedService>::NAME);
        }
        self.routes.add_service(service);
    }

    fn add<S>(&mut self, mode: Mode, service: S)
    where
        S: tower::Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        if self.served.contains(&mode) {
            self.routes.add_service(service);
            self.names.push(S::NAME);
        } else {
            self.routes.add_service(NotServed::<S>::new(mode, &self.served));
        }
    }

    /// Health knows the services that are served and, under the empty name, the
    /// server; reflection shows the same ones and itself.
    async fn with_health_and_reflection(mut self, health: &HealthReporter) -> anyhow::Result<Routes> {
        for name in &self.names {
            health.set_service_status(name, ServingStatus::Serving).await;
        }
        self.routes.add_service(HealthServer::new(HealthService::from_health_reporter(health.clone())));
        let reflection = || {
            let visible = self.names.iter().copied().chain(OWN_TO_EVERY_SERVER);
            let builder = reflection::Builder::configure()
                .register_encoded_file_descriptor_set(shared_proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
                .include_reflection_service(false);
            visible.fold(builder, |builder, name| builder.with_service_name(name))
        };
        let (v1, v1alpha) = (reflection().build_v1(), reflection().build_v1alpha());
        self.routes.add_service(v1.context("reflection v1")?);
        self.routes.add_service(v1alpha.context("reflection v1alpha")?);
        Ok(self.routes.routes())
    }
}

/// What a task opens by name: certain content, or the newest of a file.
fn uploaded_files(uploads: Uploads) -> OpenResource {
    let runtime = Handle::current();
    Arc::new(move |name| {
        // The name of a file has no `/`; what has one is `files/…` or `blobs/…`.
        let source = if name.contains('/') { name.parse() } else { format!("files/{name}").parse() };
        let source = source.map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))?;
        // Called on a thread of the task, which may wait.
        let blob = runtime.block_on(uploads.find(&source))?;
        Ok((uploads.open_blob(&blob)?, blob.size))
    })
}

fn open_logs(root: &Path) -> anyhow::Result<Arc<Logs>> {
    let logs = Logs::open(root).with_context(|| {
        format!("cannot open {}; choose another directory with --log-root", root.display())
    })?;
    Ok(Arc::new(logs))
}

fn mode_names(modes: &[Mode]) -> String {
    modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ")
}

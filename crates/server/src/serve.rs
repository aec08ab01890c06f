//! The server as a function: everything it needs comes in as an argument, so a
//! test runs it like `main` does.

use std::{convert::Infallible, sync::Arc};

use anyhow::Context as _;
use shared_proto::{
    Mode,
    fourmodes::v1::{
        bidi_streaming_service_server::BidiStreamingServiceServer,
        client_streaming_service_server::ClientStreamingServiceServer,
        server_streaming_service_server::ServerStreamingServiceServer,
        unary_service_server::UnaryServiceServer,
    },
    limits,
    tutorial::{
        greeter::greeter_server::GreeterServer, streaming_demo::stream_service_server::StreamServiceServer,
    },
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server as reflection;

use crate::{
    activity::Activity,
    config::Config,
    domain::{documents::Documents, market::Market, rooms::Rooms},
    extra::{not_served::NotServed, tutorial::Tutorial},
    layers,
    modes::{
        bidi_streaming::BidiStreaming, client_streaming::ClientStreaming, server_streaming::ServerStreaming,
        unary::Unary,
    },
    store::State,
};

/// Serves `config.modes` on `listener` until `shutdown` completes and every
/// call has ended or `config.grace` is over.
///
/// Dropping the future stops accepting. What is still open after the grace
/// period lives until the runtime is dropped, which for the binary is at once.
///
/// # Errors
///
/// When the state cannot be opened or the services cannot be put together. What goes wrong on a connection
/// ends that connection only.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let activity = Arc::new(Activity::new());
    let draining = CancellationToken::new();
    let stack = layers::stack(activity.clone(), draining.clone()).context("the descriptors are damaged")?;
    let health = HealthReporter::new();
    let state = State::open(&config.data)?;
    let services = Services::new(&config, activity, &state);
    let names = services.names.clone();
    let routes = services.with_health_and_reflection(&health).await?;

    let serving = Server::builder()
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::FRAME_SIZE)
        .max_concurrent_streams(100)
        .http2_max_header_list_size(16 << 10)
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(1024))
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .layer(stack)
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            draining.clone().cancelled_owned(),
        );
    tracing::info!(modes = %mode_names(&config.modes), "serving");

    let shutdown = async {
        shutdown.await;
        tracing::info!(grace = ?config.grace, "shutting down: streams end, unary calls finish");
        // First, so that who watches the health learns it before the watch ends.
        for name in names.into_iter().chain([WHOLE_SERVER]) {
            health.set_service_status(name, ServingStatus::NotServing).await;
        }
        draining.cancel();
        tokio::time::sleep(config.grace).await;
    };
    tokio::select! {
        served = serving => {
            tracing::info!("stopped: every call has ended");
            served.context("the listener failed")
        }
        () = shutdown => {
            tracing::warn!("the grace period is over: what is still open is cut");
            Ok(())
        }
    }
}

/// The name under which health knows the server itself.
const WHOLE_SERVER: &str = "";

/// Served with every mode.
const OWN_TO_EVERY_SERVER: [&str; 3] = [
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
    fn new(config: &Config, activity: Arc<Activity>, state: &State) -> Self {
        let served = config.modes.clone();
        let unary = Unary { activity, served: served.clone() };
        let market = Market::new(state.store.clone(), config.quotes_seed, config.retention);
        let server_streaming = ServerStreaming { market: Arc::new(market), heartbeat: config.heartbeat };
        let rooms = Rooms::new(state.store.clone(), config.retention);
        let documents = Documents::new(state.store.clone());
        let bidi_streaming = BidiStreaming { rooms: Arc::new(rooms), documents: Arc::new(documents) };
        let mut services = Self { served, routes: RoutesBuilder::default(), names: Vec::new() };
        services.add(Mode::Unary, UnaryServiceServer::new(unary));
        services.add(Mode::Unary, GreeterServer::new(Tutorial));
        services.add(Mode::ServerStreaming, ServerStreamingServiceServer::new(server_streaming));
        services.add(Mode::ServerStreaming, StreamServiceServer::new(Tutorial));
        services.add(Mode::ClientStreaming, ClientStreamingServiceServer::new(ClientStreaming));
        services.add(Mode::BidiStreaming, BidiStreamingServiceServer::new(bidi_streaming));
        services
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

fn mode_names(modes: &[Mode]) -> String {
    modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ")
}

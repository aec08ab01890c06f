//! What the server offers: the services of its modes, and those that every server
//! has.

mod interop;
mod measure;
mod not_served;
mod probe;
mod tutorial;

use std::{convert::Infallible, io, path::Path, sync::Arc};

use anyhow::Context as _;
use grpc_wire::Mode;
use shared_proto::{
    bytestream::byte_stream_server::ByteStreamServer,
    fourmodes::v1::{
        bidi_streaming_service_server::BidiStreamingServiceServer,
        client_streaming_service_server::ClientStreamingServiceServer, measure_service_server,
        probe_service_server, server_streaming_service_server::ServerStreamingServiceServer,
        unary_service_server::UnaryServiceServer,
    },
    testing::test_service_server,
    tutorial::{
        greeter::greeter_server::GreeterServer, streaming_demo::stream_service_server::StreamServiceServer,
    },
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::{
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_reflection::server as reflection;
use uuid::Uuid;

use self::{not_served::NotServed, tutorial::Tutorial};
use crate::{
    activity::Activity,
    config::Config,
    domain::{
        collector::Collector,
        documents::Documents,
        logs::Logs,
        market::Market,
        rooms::Rooms,
        tasks::{OpenResource, Tasks},
        uploads::Uploads,
    },
    layers::Methods,
    modes::{
        bidi_streaming::BidiStreaming, byte_stream::ByteStreams, client_streaming::ClientStreaming,
        server_streaming::ServerStreaming, unary::Unary,
    },
    store::State,
};

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
pub(crate) struct Services {
    served: Vec<Mode>,
    routes: RoutesBuilder,
    /// Of the modes' own.
    pub(crate) names: Vec<&'static str>,
}

impl Services {
    /// Opens what they work with: what an earlier run has left, and the logs. The
    /// tasks stop with `stop_tasks`, and go on after the next start.
    pub(crate) async fn open(
        config: &Config,
        state: &State,
        activity: Arc<Activity>,
        methods: Arc<Methods>,
        stop_tasks: CancellationToken,
    ) -> anyhow::Result<Self> {
        let uploads = Uploads::open(state.store.clone(), state.files(), config.uploads).await;
        let uploads = uploads.context("the uploads of an earlier run cannot be read; see --data-dir")?;
        let tasks = Tasks::open(state.store.clone(), uploaded_files(uploads.clone()), stop_tasks)
            .await
            .context("the tasks cannot be taken up again")?;
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
        let instance_id: Arc<str> = Uuid::new_v4().to_string().into();
        services.routes.add_service(interop::service(instance_id.clone(), config.limits.message));
        services.routes.add_service(measure::service());
        services.routes.add_service(probe::service(instance_id, config.limits, methods));
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
    pub(crate) async fn with_health_and_reflection(
        mut self,
        health: &HealthReporter,
    ) -> anyhow::Result<Routes> {
        for name in &self.names {
            health.set_service_status(name, ServingStatus::Serving).await;
        }
        self.routes.add_service(HealthServer::new(HealthService::from_health_reporter(health.clone())));
        let reflection = || {
            let visible = self.names.iter().copied().chain(OWN_TO_EVERY_SERVER);
            let builder = reflection::Builder::configure()
                .register_encoded_file_descriptor_set(shared_proto::FILE_DESCRIPTOR_SET)
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

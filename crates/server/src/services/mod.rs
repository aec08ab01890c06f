//! What the server offers: the services of its modes, and those that every server
//! has.

mod aside;
mod interop;
mod measure;
mod not_served;
mod probe;
mod servers;
mod tutorial;

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use domain::{
    collector::Collector,
    documents::Documents,
    logs::Logs,
    market::Market,
    open_files::OpenFiles,
    peers::Peers,
    rooms::Rooms,
    tasks::{OpenResource, Tasks},
    uploads::Uploads,
};
use grpc_wire::Mode;
use http::HeaderValue;
use shared_proto::{
    STATE_HEADER,
    bytestream::byte_stream_server::ByteStreamServer,
    fourmodes::v1::{
        bidi_streaming_service_server::BidiStreamingServiceServer,
        client_streaming_service_server::ClientStreamingServiceServer,
        server_streaming_service_server::ServerStreamingServiceServer,
        unary_service_server::UnaryServiceServer,
    },
    tutorial::{
        greeter::greeter_server::GreeterServer, streaming_demo::stream_service_server::StreamServiceServer,
    },
};
use stack::{Access, HttpService, Rule, Stack};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, server::NamedService, service::LayerExt as _};
use tower::util::MapResponseLayer;
use uuid::Uuid;

use self::{aside::Thread, not_served::NotServed, tutorial::Tutorial};
use crate::{
    config::Config,
    listed::Own,
    modes::{
        bidi_streaming::BidiStreaming, byte_stream::ByteStreams, client_streaming::ClientStreaming,
        server_streaming::ServerStreaming, unary::Unary,
    },
    store::State,
};

/// By the service, since the stack has a limit for every message.
const UNLIMITED: usize = usize::MAX;

/// Adds the services of the modes, and those that every server has. Opens what
/// they work with: what an earlier run has left, and the logs. The tasks stop with
/// `stop_tasks`, and go on after the next start.
pub(crate) async fn add(
    stack: &mut Stack,
    config: &Config,
    state: &State,
    own: Arc<Own>,
    stop_tasks: CancellationToken,
) -> anyhow::Result<()> {
    let files = OpenFiles::new(config.open_files);
    let peers = state.peers();
    let uploads = match state.files() {
        None => Uploads::share(state.store.clone(), config.uploads, files.clone()).await,
        Some(directory) => Uploads::open(state.store.clone(), directory, config.uploads, files.clone())
            .await
            .context("cannot read the uploads of an earlier run; see --data-dir")?,
    };
    let tasks =
        Tasks::open(state.store.clone(), peers.clone(), uploaded_files(uploads.clone()), stop_tasks.clone())
            .await
            .context("cannot resume the tasks")?;
    let served = config.modes.clone();
    let market = Arc::new(Market::new(state.store.clone(), config.quotes_seed, config.retention));
    let collector = Arc::new(Collector::new(state.store.clone()));
    let rooms = Arc::new(Rooms::new(state.store.clone(), peers.clone(), config.retention, config.rooms));
    let documents = Arc::new(Documents::new(state.store.clone(), peers.clone(), config.documents));
    let sweeping = sweep(config.retention.interval(), rooms.clone(), market.clone(), collector.clone());
    tokio::spawn(stop_tasks.clone().run_until_cancelled_owned(sweeping));
    tokio::spawn(stop_tasks.run_until_cancelled_owned(bury(rooms.clone(), peers)));
    let unary = Unary {
        activity: stack.activity(),
        since: SystemTime::now(),
        tasks: tasks.clone(),
        served: served.clone(),
        uploads: uploads.clone(),
        documents: documents.clone(),
        rooms: rooms.clone(),
        market: market.clone(),
        collector: collector.clone(),
    };
    let server_streaming = ServerStreaming {
        market,
        tasks,
        logs: config.log_root.as_deref().map(|root| open_logs(root, files)).transpose()?,
        load: Arc::default(),
        heartbeat: config.heartbeat,
    };
    let client_streaming = ClientStreaming { collector };
    let bidi_streaming = BidiStreaming { rooms, documents };
    let says_state = says_state(state)?;
    add_mode(stack, &served, Mode::Unary, says_state.named_layer(UnaryServiceServer::new(unary)));
    add_mode(stack, &served, Mode::Unary, GreeterServer::new(Tutorial));
    add_mode(
        stack,
        &served,
        Mode::ServerStreaming,
        says_state.named_layer(ServerStreamingServiceServer::new(server_streaming)),
    );
    add_mode(stack, &served, Mode::ServerStreaming, StreamServiceServer::new(Tutorial));
    add_mode(
        stack,
        &served,
        Mode::ClientStreaming,
        says_state.named_layer(
            ClientStreamingServiceServer::new(client_streaming).max_decoding_message_size(UNLIMITED),
        ),
    );
    add_mode(
        stack,
        &served,
        Mode::BidiStreaming,
        says_state.named_layer(
            BidiStreamingServiceServer::new(bidi_streaming).max_decoding_message_size(UNLIMITED),
        ),
    );
    // Of two modes: it is there with either, and says for itself which of its
    // methods are not served.
    let byte_streams = ByteStreams { served: served.clone(), uploads };
    let byte_stream = ByteStreamServer::new(byte_streams).max_decoding_message_size(UNLIMITED);
    if ByteStreams::MODES.iter().any(|mode| served.contains(mode)) {
        stack.add_service(byte_stream);
    } else {
        stack.add_hidden(byte_stream);
    }
    let instance_id: Arc<str> = Uuid::new_v4().to_string().into();
    let limits = config.stack.limits;
    // Unary calls that belong to another mode: a caller may remove what it may make.
    for (path, mode) in [
        ("/google.bytestream.ByteStream/QueryWriteStatus", Mode::ClientStreaming),
        ("/fourmodes.v1.UnaryService/DeleteFile", Mode::ClientStreaming),
        ("/fourmodes.v1.UnaryService/DeleteDocument", Mode::BidiStreaming),
        ("/fourmodes.v1.UnaryService/DeleteRoom", Mode::BidiStreaming),
    ] {
        stack.rule(path, Rule { mode: Some(mode), ..Rule::default() });
    }
    // The tests of interoperability have larger messages than any command.
    stack.rule("/grpc.testing.", Rule { max_message: Some(limits.message), ..Rule::default() });
    let thread = Thread::start().context("cannot start a thread")?;
    stack.add_tool(thread.makes(interop::service(instance_id.clone(), limits.message)));
    stack.add_tool(measure::service());
    stack.add_tool(servers::service(own, state));
    // Each caller may know where to go on.
    stack.rule("/fourmodes.v1.ServersService/", Rule { access: Access::Token, ..Rule::default() });
    stack.add_tool(probe::service(instance_id, limits, &thread));
    Ok(())
}

/// Forgets what is too old, also where nobody comes by.
async fn sweep(interval: Duration, rooms: Arc<Rooms>, market: Arc<Market>, collector: Arc<Collector>) {
    loop {
        let swept = [rooms.sweep().await, market.sweep().await, collector.sweep().await];
        for (what, swept) in ["rooms", "quotes", "producers"].into_iter().zip(swept) {
            if let Err(error) = swept {
                tracing::warn!(%error, "could not remove expired {what}");
            }
        }
        tokio::time::sleep(interval).await;
    }
}

/// Tells rooms who has left with a server that died.
async fn bury(rooms: Arc<Rooms>, mut peers: Peers) {
    const PAUSE: Duration = Duration::from_secs(1);
    /// For members that come back after a restart: they keep their places.
    const RETURN: Duration = Duration::from_secs(3);
    tokio::time::sleep(RETURN).await;
    loop {
        while let Err(error) = rooms.bury().await {
            tracing::warn!(%error, "rooms could not be told who has left");
            tokio::time::sleep(PAUSE).await;
        }
        peers.changed().await;
    }
}

/// Answers say which state they are of, where servers share it: then a client may ask for
/// the others.
fn says_state(
    state: &State,
) -> anyhow::Result<MapResponseLayer<impl Fn(http::Response<Body>) -> http::Response<Body> + Clone + use<>>> {
    let identity = state.identity().map(str::parse::<HeaderValue>).transpose();
    let identity = identity.context("the database has no identity")?;
    Ok(MapResponseLayer::new(move |mut response: http::Response<Body>| {
        if let Some(identity) = &identity {
            response.headers_mut().insert(STATE_HEADER, identity.clone());
        }
        response
    }))
}

fn add_mode<S>(stack: &mut Stack, served: &[Mode], mode: Mode, service: S)
where
    S: HttpService + NamedService + Sync,
{
    if served.contains(&mode) {
        stack.add_service(service);
    } else {
        stack.add_hidden(NotServed::<S>::new(mode, served));
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

fn open_logs(root: &Path, files: OpenFiles) -> anyhow::Result<Arc<Logs>> {
    let logs = Logs::open(root, files).with_context(|| {
        format!("cannot open {}; choose another directory with --log-root", root.display())
    })?;
    Ok(Arc::new(logs))
}

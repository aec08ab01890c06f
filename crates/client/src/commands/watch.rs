//! `watch`: its options, and what they ask of the copy and of the diagram.

use std::{
    future::pending,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use http::Uri;
use page::{Access, Asked, Page};
use schema::{Reflection, Schema};
use timeline::{Json, Renderer, Text, words::printable};
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{Code, metadata::MetadataMap};
use transport::Connector;
use watch::{Acceptor, Depth, Drawing, Filter, Only, Pools, Recorder, Seen, Taps, queue};

use super::{
    call::Corner,
    record::{RECORDED, Record},
};
use crate::{
    config::Config,
    failure::Failure,
    options::{Options, Output, code},
    stop::stop,
    values::{duration, trimmed},
};

/// How much of a message is kept to be shown, in bytes.
const SHOWN: usize = 64 << 10;
/// How much may wait to be drawn, and to be recorded, in bytes.
const WAITING: usize = 4 << 20;
const WAITING_FOR_FILE: usize = 64 << 20;

/// How long the server may take to say what its messages are before calls are taken, and
/// how long until it is asked again when it cannot be reached.
const ASKED: Duration = Duration::from_secs(2);
const ASKED_AGAIN: Duration = Duration::from_secs(2);

/// Sit between any client and any server, and draw each call while it runs
///
/// Let the client call the address of --listen in place of the server. All data is forwarded at
/// once and unchanged, even if it cannot be decoded. Ctrl-C ends it.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The server [default: --server]
    #[arg(long, value_name = "URL", value_parser = trimmed)]
    to: Option<String>,
    /// Address for clients; port 0 picks a free port
    #[arg(long, default_value = "127.0.0.1:50052", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Speak TLS with clients, with this certificate in PEM, such as from `fourmodes-server certs`
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    drawn: Drawn,
    #[command(flatten)]
    record: Record,
    /// Show the same on a page at this address, such as 127.0.0.1:8080. The page can make
    /// calls. On an address that is not loopback it requires a token: stderr shows the URL
    /// with the token
    #[arg(long, value_name = "ADDRESS")]
    page: Option<SocketAddr>,
    /// A name by which browsers may call the page; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "page")]
    page_host: Vec<String>,
}

/// Which calls are drawn, and where.
#[derive(Debug, Args)]
pub(crate) struct Drawn {
    /// Only calls of this service or method; repeatable
    #[arg(long, value_delimiter = ',', value_name = "SERVICE[/METHOD]")]
    only: Vec<Only>,
    /// Only calls that end with this status; repeatable
    #[arg(long, value_delimiter = ',', value_name = "CODE", value_parser = code)]
    status: Vec<Code>,
    /// Only calls that take longer; drawn from that moment on
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    slower_than: Option<Duration>,
    /// Write a Mermaid diagram of each finished call to this directory
    #[arg(long, value_name = "DIR")]
    diagram_dir: Option<PathBuf>,
    #[command(flatten)]
    descriptors: Descriptors,
}

/// What the messages are.
#[derive(Debug, Args)]
struct Descriptors {
    /// Proto file of the services; repeatable [default: the server's reflection]
    #[arg(long, value_name = "FILE")]
    proto: Vec<PathBuf>,
    /// Directory with imports of --proto; repeatable
    #[arg(long, value_name = "DIR", requires = "proto")]
    proto_path: Vec<PathBuf>,
    /// Descriptor set of `protoc --descriptor_set_out` or `buf build -o`
    #[arg(long, value_name = "FILE", conflicts_with = "proto")]
    descriptors: Option<PathBuf>,
}

impl Descriptors {
    /// Those of the files, and of this program.
    fn pools(&self) -> Result<Pools, Failure> {
        let pools = Pools::default();
        let wrong = |file: &PathBuf, error| Failure::input(file, error);
        if let Some(file) = &self.descriptors {
            pools.add(Schema::read(file).map_err(|error| wrong(file, error))?.pool().clone());
        }
        if let Some(first) = self.proto.first() {
            let schema = Schema::compile(&self.proto, &self.proto_path);
            pools.add(schema.map_err(|error| wrong(first, error))?.pool().clone());
        }
        pools.add(shared_proto::POOL.clone());
        Ok(pools)
    }

    fn is_given(&self) -> bool {
        self.descriptors.is_some() || !self.proto.is_empty()
    }
}

/// Asks the server for what is not known of its services, which it names.
pub(crate) async fn describe(
    connector: &Connector,
    server: &Uri,
    pools: &Pools,
) -> Result<Vec<String>, String> {
    let channel = connector.connect(server).await.map_err(|error| error.message)?;
    let mut reflection = Reflection::new(channel, MetadataMap::new());
    let services = reflection.services().await.map_err(|error| error.to_string())?;
    for service in &services {
        if !pools.has(service)
            && let Ok(schema) = reflection.schema(service).await
        {
            pools.add(schema.pool().clone());
        }
    }
    Ok(services)
}

/// [`describe`], again while the server cannot be reached. One that has no reflection is
/// asked once. `asked` ends with the first attempt.
async fn reflect(connector: Connector, server: Uri, pools: Pools, asked: oneshot::Sender<()>) {
    let mut asked = Some(asked);
    while let Err(error) = connector.connect(&server).await {
        // Until then calls are drawn by the numbers of their fields.
        if asked.take().is_some() {
            let (cause, next) = error.advice().unwrap_or_default();
            let _ =
                writeln!(io::stderr(), "warning: {server}: {}: {cause}; {next}", printable(&error.message));
        }
        tokio::time::sleep(ASKED_AGAIN).await;
    }
    let _ = describe(&connector, &server, &pools).await;
}

impl Drawn {
    /// The descriptors that are there before a server is asked.
    pub(crate) fn pools(&self) -> Result<Pools, Failure> {
        self.descriptors.pools()
    }

    /// Makes the directory for the diagrams.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        let Some(directory) = &self.diagram_dir else { return Ok(()) };
        std::fs::create_dir_all(directory)
            .map_err(|error| Failure::output(&directory.display().to_string(), &error))
    }

    /// On stdout, of calls of a server.
    pub(crate) fn drawing(
        self,
        config: &Config,
        server: &Uri,
        recorder: Option<Recorder>,
        page: Option<Arc<Page>>,
        pools: Pools,
    ) -> Drawing {
        let Self { only, status, slower_than, diagram_dir, descriptors: _ } = self;
        let renderer: Box<dyn Renderer> = match config.output {
            Output::Text => Box::new(Text::to_stdout(io::stdout(), config.quiet)),
            Output::Json | Output::Junit => Box::new(Json::new(io::stdout(), config.quiet)),
        };
        let filter = Filter { only: only.into(), status, slower_than };
        Drawing::new(server.clone(), renderer, page, pools, filter, diagram_dir, recorder)
    }
}

/// What a command that draws many calls may rely on.
///
/// # Errors
///
/// When the options make no sense.
pub(crate) fn config(command: &str, server: Option<String>, options: Options) -> Result<Config, String> {
    let config = Config::at(server, options)?;
    if config.servers.len() > 1 {
        return Err(format!("{command} needs exactly one server"));
    }
    if config.diagram.is_some() {
        return Err(format!("{command} has many calls: use --diagram-dir instead of --diagram"));
    }
    if config.output == Output::Junit {
        return Err("--output junit is only for check; use json".to_owned());
    }
    Ok(config)
}

impl Watch {
    /// Watches until the user has had enough, or the time is over.
    ///
    /// # Errors
    ///
    /// When the options make no sense.
    pub(crate) async fn run(self: Box<Self>, options: Options) -> Result<ExitCode, String> {
        let config = config("watch", self.to.clone(), options)?;
        let tried = config.tried("watch");
        Ok(match self.watch(&config).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(&tried),
        })
    }

    async fn watch(self, config: &Config) -> Result<(), Failure> {
        let stop = stop(config.deadline)?;
        let acceptor = match self.tls_cert.as_deref().zip(self.tls_key.as_deref()) {
            Some((certificate, key)) => {
                Some(Acceptor::load(certificate, key).map_err(|(file, error)| Failure::input(&file, error))?)
            }
            None => None,
        };
        let server = config.server();
        self.drawn.prepare()?;
        let pools = self.drawn.pools()?;
        let recorder = self.record.recorder(&server)?;
        let (listener, listen) = listen(self.listen).await?;
        let page = match self.page {
            Some(address) => Some(self::listen(address).await?),
            None => None,
        };
        let is_drawn =
            !config.quiet || self.drawn.diagram_dir.is_some() || recorder.is_some() || page.is_some();
        if is_drawn && !self.drawn.descriptors.is_given() {
            let (asked, answered) = oneshot::channel();
            tokio::spawn(reflect(config.connector.clone(), server.clone(), pools.clone(), asked));
            // What comes later is still of use.
            let _ = tokio::time::timeout(ASKED, answered).await;
        }
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        // A stderr that nobody reads any more keeps nobody from watching.
        let _ = writeln!(io::stderr(), "watching {scheme}://{listen}, forwarding to {server}");

        let keep = match (&recorder, is_drawn) {
            (Some(_), _) => RECORDED,
            (None, true) => SHOWN,
            (None, false) => 0,
        };
        let (queue, events) = queue(if recorder.is_some() { WAITING_FOR_FILE } else { WAITING });
        let shown = page.is_some().then(Arc::<Page>::default);
        // A recording has all calls.
        let only = if recorder.is_some() { Default::default() } else { self.drawn.only.clone().into() };
        let depth = Depth { keep, frames: config.frames, windows: page.is_some(), only };
        let looked_at = shown.clone();
        let taps = Taps::new(depth, move |event| {
            let is_for_page = matches!(event.seen, Seen::Window { .. });
            if !is_for_page || looked_at.as_ref().is_some_and(|page| page.is_watched()) {
                queue.put(event);
            }
        });
        let mut drawing = self.drawn.drawing(config, &server, recorder, shown.clone(), pools.clone());
        let served = async {
            let Some((listener, address)) = page else { return pending().await };
            let access = Access::to(address, &self.page_host);
            let _ = writeln!(io::stderr(), "page at {}", access.url(address));
            let corner = Arc::new(Corner {
                connector: config.connector.clone(),
                server: server.clone(),
                pools,
                taps: taps.clone(),
                open: Default::default(),
            });
            let asked = Asked::new(move |question| {
                let corner = corner.clone();
                async move { corner.answer(question).await }
            });
            page::serve(listener, shown.unwrap_or_default(), access, Some(asked), pending()).await;
        };
        let begun = taps.begun();
        let watch = watch::Watch {
            to: server.clone(),
            tls: config.connector.tls.clone(),
            acceptor,
            taps: taps.clone(),
        };
        let (done, mut drawn) = oneshot::channel();
        // A thread of its own: it may wait for a terminal for as long as it likes.
        std::thread::spawn(move || {
            let ended = drawing.follow(&events, begun);
            let _ = done.send(ended);
        });
        tokio::select! {
            biased;
            _ = stop => {}
            () = watch.serve(listener) => {}
            () = served => {}
            ended = &mut drawn => return finished(ended),
        }
        // The last of those who could still tell something.
        drop(taps);
        finished(drawn.await)
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind(address).await;
    let bound = listener.and_then(|listener| listener.local_addr().map(|local| (listener, local)));
    bound.map_err(|error| Failure::listen(address, &error))
}

fn finished(ended: Result<io::Result<()>, oneshot::error::RecvError>) -> Result<(), Failure> {
    match ended {
        Ok(ended) => ended.map_err(|error| Failure::unwritten(&error)),
        Err(_) => Err(Failure::unwritten(&io::Error::other("what draws it has ended"))),
    }
}

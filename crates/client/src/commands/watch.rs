//! `watch`: its options, and what they ask of the copy and of the diagram.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use http::Uri;
use schema::{Reflection, Schema};
use timeline::{Json, Renderer, Text};
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{Code, metadata::MetadataMap};
use transport::Connector;
use watch::{Acceptor, Drawing, Filter, Only, Pools, Recorder, queue};

use crate::{
    config::Config,
    failure::Failure,
    options::{Options, Output, code},
    stop::stop,
    values::{duration, trimmed},
};

/// How much of a message is kept to be shown, and how much for a recording, in bytes.
const SHOWN: usize = 64 << 10;
const RECORDED: usize = 16 << 20;
/// How much may wait to be drawn, and to be recorded, in bytes.
const WAITING: usize = 8 << 20;
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
    /// Also draw HTTP/2 frames: settings, windows, pings, header compression
    #[arg(long)]
    frames: bool,
    /// Also record all traffic, for `show` and `replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Maximum size of the --record file
    #[arg(
        long,
        default_value = "1GiB",
        value_name = "SIZE",
        value_parser = shared_process::bytes,
        allow_hyphen_values = true
    )]
    record_limit: u64,
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

/// Asks the server for what is not known, and again while it cannot be reached. One
/// that has no reflection is asked once. `asked` ends with the first attempt.
async fn reflect(connector: Connector, server: Uri, pools: Pools, asked: oneshot::Sender<()>) {
    let mut asked = Some(asked);
    loop {
        if let Ok(channel) = connector.connect(&server).await {
            let mut reflection = Reflection::new(channel, MetadataMap::new());
            for service in reflection.services().await.unwrap_or_default() {
                if !pools.has(&service)
                    && let Ok(schema) = reflection.schema(&service).await
                {
                    pools.add(schema.pool().clone());
                }
            }
            return;
        }
        // Until then calls are drawn by the numbers of their fields.
        drop(asked.take());
        tokio::time::sleep(ASKED_AGAIN).await;
    }
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
        pools: Pools,
    ) -> Drawing {
        let Self { only, status, slower_than, diagram_dir, descriptors: _ } = self;
        let renderer: Box<dyn Renderer> = match config.output {
            Output::Text => Box::new(Text::to_stdout(io::stdout(), config.quiet)),
            Output::Json | Output::Junit => Box::new(Json::new(io::stdout(), config.quiet)),
        };
        let filter = Filter { only, status, slower_than };
        Drawing::new(server.clone(), renderer, pools, filter, diagram_dir, recorder)
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
        let recorder = match &self.record {
            Some(file) => Some(
                Recorder::create(file, &server, self.record_limit)
                    .map_err(|error| Failure::output(&file.display().to_string(), &error))?,
            ),
            None => None,
        };
        let listener = TcpListener::bind(self.listen).await;
        let listener = listener.map_err(|error| Failure::listen(self.listen, &error))?;
        let listen = listener.local_addr().map_err(|error| Failure::listen(self.listen, &error))?;
        let is_drawn = !config.quiet || self.drawn.diagram_dir.is_some() || recorder.is_some();
        if is_drawn && !self.drawn.descriptors.is_given() {
            let (asked, answered) = oneshot::channel();
            tokio::spawn(reflect(config.connector.clone(), server.clone(), pools.clone(), asked));
            // What comes later is still of use.
            let _ = tokio::time::timeout(ASKED, answered).await;
        }
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        // A stderr that nobody reads any more keeps nobody from watching.
        let _ = writeln!(io::stderr(), "watching {scheme}://{listen}, which passes on to {server}");

        let keep = match (&recorder, is_drawn) {
            (Some(_), _) => RECORDED,
            (None, true) => SHOWN,
            (None, false) => 0,
        };
        let (queue, events) = queue(if recorder.is_some() { WAITING_FOR_FILE } else { WAITING });
        let mut drawing = self.drawn.drawing(config, &server, recorder, pools);
        let watch = watch::Watch {
            to: server,
            tls: config.connector.tls.clone(),
            acceptor,
            keep,
            frames: self.frames,
        };
        let (begun, (done, mut drawn)) = (Instant::now(), oneshot::channel());
        // A thread of its own: it may wait for a terminal for as long as it likes.
        std::thread::spawn(move || {
            let ended = drawing.follow(&events, begun);
            let _ = done.send(ended);
        });
        tokio::select! {
            biased;
            _ = stop => {}
            () = watch.serve(listener, begun, queue) => {}
            ended = &mut drawn => return finished(ended),
        }
        finished(drawn.await)
    }
}

fn finished(ended: Result<io::Result<()>, oneshot::error::RecvError>) -> Result<(), Failure> {
    match ended {
        Ok(ended) => ended.map_err(|error| Failure::unwritten(&error)),
        Err(_) => Err(Failure::unwritten(&io::Error::other("what draws it has ended"))),
    }
}

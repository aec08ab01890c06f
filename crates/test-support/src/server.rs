//! A server in this process.

use std::{net::SocketAddr, time::Duration};

use grpc_wire::Mode;
use server::config::Config;
use shared_proto::fourmodes::v1::ModeStatus;
use stack::Settings;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{eventually, status_of, within};

/// On the runtime of the test. It goes on for as long as that does.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    /// With the defaults.
    pub async fn start() -> Self {
        Self::with(Config::default()).await
    }

    /// Serves these modes alone.
    pub async fn serving(modes: impl Into<Vec<Mode>>) -> Self {
        Self::with(Config { modes: modes.into(), ..Config::default() }).await
    }

    /// Lets calls go on for so long once it shuts down.
    pub async fn with_grace(grace: Duration) -> Self {
        Self::with(Settings { grace, ..Settings::default() }.into()).await
    }

    /// With settings of the test's own.
    pub async fn with(config: Config) -> Self {
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(server::serve(listener, config, shutdown.clone().cancelled_owned()));
        Self { address, shutdown, serving }
    }

    /// Asks it to end.
    pub fn begin_shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Drops the future that serves.
    pub fn dropped(self) {
        self.serving.abort();
    }

    /// Whether it has.
    pub fn has_ended(&self) -> bool {
        self.serving.is_finished()
    }

    /// Waits until it has, without an error.
    #[track_caller]
    pub fn ended(self) -> impl Future<Output = ()> {
        let ended = within(self.serving);
        async { ended.await.unwrap().unwrap() }
    }
}

/// For a test without a runtime. It ends when this is dropped.
pub struct BlockingServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// As a client is given it.
    pub url: String,
    /// What it runs on.
    pub runtime: Runtime,
}

impl BlockingServer {
    /// With the defaults.
    pub fn start() -> Self {
        Self::with(Config::default())
    }

    /// With settings of the test's own.
    pub fn with(config: Config) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind(config.listen)).unwrap();
        Self::on(listener, config, runtime)
    }

    pub(crate) fn on(listener: TcpListener, config: Config, runtime: Runtime) -> Self {
        let scheme = if config.stack.tls.is_some() { "https" } else { "http" };
        let address = listener.local_addr().unwrap();
        runtime.spawn(server::serve(listener, config, std::future::pending()));
        Self { address, url: format!("{scheme}://{address}"), runtime }
    }

    /// What `GetStatus` says of a mode.
    pub fn status(&self, mode: Mode) -> ModeStatus {
        self.runtime.block_on(status_of(mode, self.address))
    }

    /// Waits until the server holds no call of a mode any more.
    #[track_caller]
    pub fn has_let_go_of(&self, mode: Mode) {
        eventually(|| self.status(mode).calls_open == 0, "the server holds a call that is over");
    }
}

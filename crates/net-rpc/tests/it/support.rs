//! A server with the service of the tutorial, and clients of it.

use std::net::SocketAddr;
use std::sync::Arc;

use net_rpc::{Client, ClientLimits, Event, Registry, ServerLimits, Transport, serve};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

pub(crate) const ALL: [Transport; 3] = [Transport::Tcp, Transport::Http, Transport::Json];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Args {
    pub(crate) a: i64,
    pub(crate) b: i64,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Lets one call of `MathService.Wait` go on.
    pub(crate) gate: Arc<Notify>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<usize>,
}

impl Server {
    pub(crate) async fn start(limits: ServerLimits) -> Self {
        Self::observed(limits, |_, _| ()).await
    }

    pub(crate) async fn observed(
        limits: ServerLimits,
        observe: impl Fn(Option<SocketAddr>, Event<'_>) + Send + Sync + 'static,
    ) -> Self {
        let gate = Arc::new(Notify::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let registry = Arc::new(registry(Arc::clone(&gate)));
        let stopped = async { drop(stopped.await) };
        let task = tokio::spawn(serve(listener, registry, limits, observe, stopped));
        Self { address, gate, stop, task }
    }

    pub(crate) async fn stream(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn client(&self, transport: Transport) -> Client {
        Client::connect(self.stream().await, transport, ClientLimits::default(), |_| ()).await.unwrap()
    }

    /// Begins the shutdown.
    pub(crate) fn stop(self) -> JoinHandle<usize> {
        self.stop.send(()).unwrap();
        self.task
    }
}

pub(crate) fn registry(gate: Arc<Notify>) -> Registry {
    let mut registry = Registry::new();
    registry
        .register("MathService.Multiply", async |args: Args| args.a.checked_mul(args.b).ok_or("overflow"))
        .unwrap();
    let wait = move |args: Args| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Ok::<_, String>(args.a)
        }
    };
    registry.register("MathService.Wait", wait).unwrap();
    registry
        .register("MathService.Panic", async |args: Args| -> Result<i64, String> { panic!("{args:?}") })
        .unwrap();
    registry
        .register("MathService.Large", async |args: Args| Ok::<_, String>("x".repeat(args.a as usize)))
        .unwrap();
    registry.register("MathService.Nothing", async |_: Args| Ok::<_, String>(())).unwrap();
    registry.register("MathService.NoText", async |_: Args| Err::<i64, _>("")).unwrap();
    registry
}

pub(crate) async fn multiply(client: &Client, a: i64, b: i64) -> Result<i64, net_rpc::CallError> {
    client.call("MathService.Multiply", &Args { a, b }).await
}

//! A thread for each core, with a runtime of its own.
//!
//! A connection, its calls and what they wake stay on one thread: there is no
//! queue of tasks that threads share, and none of them is woken to look for work
//! that another has. A connection goes to whom has the fewest; `SO_REUSEPORT`
//! would leave that to a hash, and half of the time have two of two on one core.
//!
//! A thread that serves connections never blocks: files, commits and checksums have
//! threads of their own.

use std::{io, sync::Arc, thread};

use anyhow::{Context as _, bail};
use tokio::{
    net::TcpStream,
    runtime::Builder,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::UnboundedReceiverStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::accept::Admitted;

pub(crate) struct Workers {
    all: Vec<Worker>,
    /// Whatever they still do ends with this.
    _over: DropGuard,
}

struct Worker {
    /// A socket is bound to the runtime that it was made in, so it is handed
    /// over without one. There are no more of them than connections may be open.
    connections: mpsc::UnboundedSender<Admitted<std::net::TcpStream>>,
    /// Each of its connections has one.
    load: Arc<()>,
    served: oneshot::Receiver<anyhow::Result<()>>,
}

impl Workers {
    /// Starts so many, each of which serves the connections that it is handed.
    pub(crate) fn start<F>(
        count: usize,
        serve: impl Fn(Box<dyn Stream<Item = Admitted<TcpStream>> + Send + Unpin>) -> F + Clone + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let over = CancellationToken::new();
        let start = |number| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (connections, handed) = mpsc::unbounded_channel();
            let (tell, served) = oneshot::channel();
            let (serve, over) = (serve.clone(), over.clone());
            let work = async move || {
                let handed = UnboundedReceiverStream::new(handed);
                let connections =
                    handed.filter_map(|admitted: Admitted<_>| arrived(admitted.map(TcpStream::from_std)));
                tokio::select! {
                    served = serve(Box::new(connections)) => {
                        let _ = tell.send(served);
                        // What its calls have begun others may wait for.
                        over.cancelled().await;
                    }
                    () = over.cancelled() => {}
                }
            };
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || runtime.block_on(work()))?;
            Ok(Worker { connections, load: Arc::default(), served })
        };
        let all = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { all, _over: over.drop_guard() })
    }

    /// Hands them the connections until it is `draining`, and waits until each of
    /// them has served its own.
    pub(crate) async fn serve(
        self,
        connections: impl Stream<Item = Admitted<TcpStream>>,
        draining: CancellationToken,
    ) -> anyhow::Result<()> {
        let Self { all, _over } = self;
        let mut serving = JoinSet::new();
        let mut workers = Vec::new();
        for Worker { connections, load, served } in all {
            workers.push((connections, load));
            serving.spawn(served);
        }
        {
            let mut connections = std::pin::pin!(connections);
            loop {
                let connection = tokio::select! {
                    biased;
                    () = draining.cancelled() => break,
                    served = serving.join_next() => {
                        served.context("there are no workers")??.context("a worker has died")??;
                        bail!("a worker has ended by itself")
                    }
                    connection = connections.next() => connection,
                };
                let Some(connection) = connection else { break };
                let idlest = workers.iter().min_by_key(|(_, load)| Arc::strong_count(load));
                let (worker, load) = idlest.context("there are no workers")?;
                if let Some(mut connection) = arrived(connection.map(TcpStream::into_std)) {
                    connection.kept = Some(load.clone());
                    // One that has ended says so above.
                    let _ = worker.send(connection);
                }
            }
        }
        drop(workers);
        while let Some(served) = serving.join_next().await {
            served?.context("a worker has died")??;
        }
        Ok(())
    }
}

fn arrived<C>(connection: io::Result<Admitted<C>>) -> Option<Admitted<C>> {
    connection.inspect_err(|error| tracing::warn!(%error, "a connection is lost between threads")).ok()
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, sync::mpsc::UnboundedReceiver, time::timeout};
    use tokio_stream::wrappers::TcpListenerStream;

    use super::*;
    use crate::accept::admit;

    /// Two workers that tell on which thread a connection has arrived and keep it,
    /// and what connections are made to.
    async fn two() -> (impl AsyncFn() -> TcpStream, UnboundedReceiver<(String, Admitted<TcpStream>)>) {
        let (tell, told) = mpsc::unbounded_channel();
        let workers = Workers::start(2, move |mut connections| {
            let tell = tell.clone();
            async move {
                while let Some(connection) = connections.next().await {
                    let thread = thread::current().name().unwrap().to_owned();
                    tell.send((thread, connection)).unwrap();
                }
                Ok(())
            }
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admitted = admit(100, Arc::default(), TcpListenerStream::new(listener));
        tokio::spawn(workers.serve(admitted, CancellationToken::new()));
        (async move || TcpStream::connect(address).await.unwrap(), told)
    }

    #[tokio::test]
    async fn a_connection_goes_to_whom_has_the_fewest() {
        let (connect, mut told) = two().await;
        let mut open = Vec::new();
        for _ in 0..6 {
            let _connection = connect().await;
            open.push(told.recv().await.unwrap());
        }
        let on_first = |open: &[(String, _)]| open.iter().filter(|(thread, _)| thread == "worker-0").count();
        assert_eq!(on_first(&open), 3);
        open.retain(|(thread, _)| thread == "worker-1");
        for _ in 0..3 {
            let _connection = connect().await;
            open.push(told.recv().await.unwrap());
        }
        assert_eq!((on_first(&open), open.len()), (3, 6));
    }

    #[tokio::test]
    async fn a_worker_that_ends_ends_the_server_and_an_error_is_not_lost() {
        for draining in [false, true] {
            for ends in [Ok(()), Err("no reason")] {
                let workers =
                    Workers::start(2, move |_| async move { ends.map_err(anyhow::Error::msg) }).unwrap();
                let token = CancellationToken::new();
                if draining {
                    token.cancel();
                }
                let served = workers.serve(tokio_stream::pending(), token);
                let served = timeout(std::time::Duration::from_secs(10), served).await.unwrap();
                let said = served.err().map(|error| format!("{error:#}"));
                let expected = match (ends, draining) {
                    (Err(reason), _) => Some(reason),
                    (Ok(()), false) => Some("a worker has ended by itself"),
                    (Ok(()), true) => None,
                };
                assert_eq!(said.as_deref(), expected, "draining: {draining}");
            }
        }
    }
}

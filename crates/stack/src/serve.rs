//! HTTP for connections that are admitted, by hyper: a task for each connection
//! and for each call of HTTP/2, on the thread that the connection came to.

use std::{
    convert::Infallible,
    error::Error,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
    time::Duration,
};

use grpc_wire::limits;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{body::Body, transport::server::Connected};
use tower::ServiceExt as _;

use crate::{
    accept::{Admitted, Guard, Guarded, admit},
    bounds::{Bounds, Budget, about, keep, lock},
    connection::Connection,
    delivery::Delivery,
    layers::{HEAD_READ, HttpService},
    metrics::Metrics,
    settings::Limits,
    turns::Turns,
};

/// What every connection is connected to.
#[derive(Clone)]
pub(crate) struct Served<S> {
    pub(crate) limits: Limits,
    pub(crate) guard: Guard,
    /// The routes, with the layers around them.
    pub(crate) service: S,
    pub(crate) draining: CancellationToken,
    pub(crate) budget: Arc<Budget>,
    /// How long the calls of a connection may go on when it has reached its age.
    pub(crate) farewell: Duration,
}

impl<S: HttpService> Served<S> {
    pub(crate) fn admit<C, A>(&self, accepted: A) -> impl Stream<Item = Admitted<C>> + use<C, A, S>
    where
        A: Stream<Item = io::Result<C>>,
    {
        admit(self.limits.connections, self.guard.metrics.clone(), accepted)
    }

    /// Until there are no more connections or it is draining, and every call on
    /// them has ended.
    pub(crate) async fn serve<C>(self, connections: impl Stream<Item = Admitted<C>>)
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let serving = TaskTracker::new();
        let last = self.draining.child_token();
        {
            let mut connections = pin!(connections);
            while let Some(Some(admitted)) = last.run_until_cancelled(connections.next()).await {
                let guarded = Guarded::new(admitted, &self.guard);
                serving.spawn(self.clone().keep(guarded, last.clone()));
            }
        }
        last.cancel();
        serving.close();
        serving.wait().await;
    }

    /// Serves one connection until it ends: by itself, or because it is the `last`
    /// of all or old. Then its peer is told to make further calls elsewhere.
    async fn keep<C>(self, guarded: Guarded<C>, last: CancellationToken)
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let Self { limits, guard, service, budget, farewell, .. } = self;
        let (info, turns, current) = (guarded.info(), guarded.turns(), Current::default());
        let budget = Arc::new(Budget::share(budget));
        let calls = Calls { service, info: info.clone(), turns, budget, current: current.clone() };
        let builder = builder(&limits, current.clone());
        let mut connection = pin!(builder.serve_connection(TokioIo::new(guarded), calls));
        let age = about(limits.connection_age);
        let ended = tokio::select! {
            biased;
            ended = current.keep(connection.as_mut()) => ended,
            () = last.cancelled() => {
                connection.as_mut().graceful_shutdown();
                current.keep(connection).await
            }
            () = sleep(age) => {
                connection.as_mut().graceful_shutdown();
                timeout(farewell, current.keep(connection)).await.ok().flatten()
            }
        };
        if let Some(Err(error)) = ended {
            say_why(&*error, &info, &guard.metrics);
        }
    }
}

fn builder(limits: &Limits, current: Current) -> auto::Builder<Current> {
    let mut builder = auto::Builder::new(current);
    let headers = limits.headers.saturating_mul(HEAD_READ);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake)
        // The library takes no less than 8 KiB.
        .max_buf_size(headers.max(8 << 10) as usize)
        // As many as can be within the limit, at 32 bytes and more each.
        .max_headers((limits.headers / 32) as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::FRAME_SIZE)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(headers)
        // Calls that were reset before they began. A caller may give up all of its
        // calls at once, and twice before the server has looked.
        .max_pending_accept_reset_streams(limits.streams.saturating_mul(2) as usize)
        .max_local_error_reset_streams(1024)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(keepalive::NO_TIMEOUT);
    builder
}

/// The calls of one connection.
struct Calls<S> {
    service: S,
    info: Arc<Connection>,
    turns: Arc<Turns>,
    budget: Arc<Budget>,
    current: Current,
}

impl<S: HttpService> hyper::service::Service<Request<Incoming>> for Calls<S> {
    type Response = Response<Delivery>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let bounds = Arc::new(Bounds::within(self.budget.clone()));
        self.current.set(&bounds);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.info.clone());
        request.extensions_mut().insert(bounds.clone());
        let (response, turn) = (self.service.clone().oneshot(request), self.turns.begin());
        Box::pin(async {
            let response = response.await?;
            if let Some(turn) = turn {
                turn.answered().await;
            }
            Ok(response.map(|body| Delivery::new(body, bounds)))
        })
    }
}

/// The bounds of the call that began last on a connection. hyper hands over each
/// call of HTTP/2 as soon as it has begun, to be driven until its last byte can be
/// sent. One of HTTP/1.1 it keeps.
#[derive(Clone, Default)]
struct Current(Arc<Mutex<Weak<Bounds>>>);

impl Current {
    fn set(&self, bounds: &Arc<Bounds>) {
        *lock(&self.0) = Arc::downgrade(bounds);
    }

    /// Drives a connection, and with it a call of HTTP/1.1. Completes with nothing
    /// when that was due and did not end within its grace.
    async fn keep<T>(&self, connection: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let due = |cx: &mut Context<'_>| {
            let bounds = lock(&self.0).upgrade();
            bounds.map_or(Poll::Pending, |bounds| bounds.end.poll_due(cx))
        };
        keep(connection, due).await
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Current {
    fn execute(&self, call: F) {
        let bounds = std::mem::take(&mut *lock(&self.0)).upgrade().unwrap_or_default();
        tokio::spawn(async move {
            if keep(pin!(call), |cx| bounds.end.poll_due(cx)).await.is_none() {
                tracing::info!("resetting an overdue call: its peer does not read");
            }
        });
    }
}

/// Says what ended a connection, if that was the server. What the library for
/// HTTP/2 has against a peer, it tells the peer, and there it is seen.
fn say_why(error: &(dyn Error + Send + Sync + 'static), info: &Connection, metrics: &Metrics) {
    let peer = info.peer.map(tracing::field::display);
    let limit = match error.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_timeout() => "handshake_timeout",
        Some(error) if error.is_parse_too_large() => "max_headers",
        _ => return tracing::debug!(peer, error, "a connection broke"),
    };
    metrics.refused(limit);
    tracing::info!(peer, limit, "a connection is closed");
}

//! Ends streams: when the server shuts down, when nothing has moved on them for
//! too long, and when they are old.
//!
//! A graceful shutdown waits for every open call, and a stream may stay open
//! for ever. So each stream ends itself with UNAVAILABLE and `RetryInfo`, which
//! tells a client to go on elsewhere. Unary calls finish: these have a deadline.
//! The age of a stream has a limit so that clients spread over the servers that
//! there are now; it differs, so that those that came together do not go
//! together.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use grpc_wire::Mode;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use super::{
    call::Call,
    ending::{Request, Response, ResponseFuture, until},
    methods::is_about_the_server,
};
use crate::{
    error::{idle_for_too_long, open_for_too_long, shutting_down},
    metrics::Metrics,
};

#[derive(Clone)]
pub(crate) struct Lifetime {
    pub(crate) shutdown: CancellationToken,
    pub(crate) idle: Duration,
    pub(crate) age: Duration,
    pub(crate) metrics: Arc<Metrics>,
}

#[derive(Clone)]
pub(crate) struct LifetimeService<S> {
    layer: Arc<Lifetime>,
    inner: S,
}

impl<S> Layer<S> for Lifetime {
    type Service = LifetimeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LifetimeService { layer: Arc::new(self.clone()), inner }
    }
}

impl<S> Service<Request> for LifetimeService<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(call) = Call::of(&request).cloned() else { return self.inner.call(request) };
        let Some(mode) = call.mode.filter(|mode| *mode != Mode::Unary) else {
            return self.inner.call(request);
        };
        let Lifetime { shutdown, idle, age, metrics } = (*self.layer).clone();
        // Who watches the health hears nothing as long as all is well.
        let may_be_quiet = is_about_the_server(request.uri().path());
        let age_here = age.mul_f64(0.9 + 0.2 * fastrand::f64());
        until(&mut self.inner, request, mode.has_many_responses(), async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => shutting_down(),
                () = sleep(age_here) => {
                    metrics.refused("max_stream_age");
                    open_for_too_long(age)
                }
                () = nothing_moves(&call, idle), if !may_be_quiet => {
                    metrics.refused("idle_timeout");
                    idle_for_too_long(idle)
                }
            }
        })
    }
}

/// Completes when there was no frame for that long, or up to a quarter longer:
/// so a frame costs no look at the clock.
async fn nothing_moves(call: &Call, idle: Duration) {
    let mut quiet = 0;
    while quiet < 4 {
        sleep(idle / 4).await;
        quiet = if call.moved() { 0 } else { quiet + 1 };
    }
}

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

use shared_proto::Mode;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use super::{
    ending::{Moved, Request, Response, ResponseFuture, until},
    methods::{Methods, is_about_the_server},
};
use crate::{
    error::{idle_for_too_long, open_for_too_long, shutting_down},
    metrics::Metrics,
};

#[derive(Clone)]
pub(crate) struct Lifetime {
    pub(crate) methods: Arc<Methods>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) idle: Duration,
    pub(crate) age: Duration,
    pub(crate) metrics: Arc<Metrics>,
}

#[derive(Clone)]
pub(crate) struct LifetimeService<S> {
    layer: Lifetime,
    inner: S,
}

impl<S> Layer<S> for Lifetime {
    type Service = LifetimeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LifetimeService { layer: self.clone(), inner }
    }
}

impl<S> Service<Request> for LifetimeService<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let path = request.uri().path();
        let mode = self.layer.methods.mode(path);
        if mode.is_none_or(|mode| mode == Mode::Unary) {
            return Box::pin(self.inner.call(request));
        }
        let Lifetime { shutdown, idle, age, metrics, .. } = self.layer.clone();
        // Who watches the health hears nothing as long as all is well.
        let may_be_quiet = is_about_the_server(path);
        let moved = Moved::default();
        let seen = moved.clone();
        request.extensions_mut().insert(moved.clone());
        let age_here = age.mul_f64(0.9 + 0.2 * fastrand::f64());
        until(&mut self.inner, request, moved, async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => shutting_down(),
                () = sleep(age_here) => {
                    metrics.refused("max_stream_age");
                    open_for_too_long(age)
                }
                () = nothing_moves(&seen, idle), if !may_be_quiet => {
                    metrics.refused("idle_timeout");
                    idle_for_too_long(idle)
                }
            }
        })
    }
}

/// Completes when there was no frame for that long, or up to a quarter longer:
/// so a frame costs no look at the clock.
async fn nothing_moves(moved: &Moved, idle: Duration) {
    let mut quiet = 0;
    while quiet < 4 {
        sleep(idle / 4).await;
        quiet = if moved.since() { 0 } else { quiet + 1 };
    }
}

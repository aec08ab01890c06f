//! Ends streams when the server shuts down, when they have been idle for too long, and
//! when they are old.
//!
//! A graceful shutdown waits for every open call, and a stream may stay open for ever.
//! So each stream ends itself with UNAVAILABLE and `RetryInfo`, and the client
//! continues on another server. Unary calls finish, because they have a deadline. The
//! age of a stream is limited so that clients spread over the present servers. The
//! limit varies, so that streams that were opened together do not end together.
//!
//! No stream outlives the grace period. The server does not wait for what is left after
//! that, such as a stream whose end is queued behind data that the client does not
//! read.

use std::{convert::Infallible, sync::Arc, time::Duration};

use grpc_wire::Mode;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{
    around::{AroundCall, Request, Response, ResponseFuture},
    call::{Call, Motion},
};
use crate::{
    bounds::about,
    metrics::Metrics,
    status::{idle_for_too_long, open_for_too_long, shutting_down},
};

#[derive(Clone)]
pub(super) struct Lifetime {
    pub(super) draining: CancellationToken,
    pub(super) idle: Duration,
    pub(super) age: Duration,
    pub(super) metrics: Arc<Metrics>,
}

impl<S> AroundCall<S> for Lifetime
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
{
    fn call(&self, call: &Arc<Call>, request: Request, inner: &mut S) -> ResponseFuture {
        if call.mode().is_none_or(|mode| mode == Mode::Unary) {
            return inner.call(request);
        }
        let Self { draining, idle, age, metrics } = self.clone();
        let (quiet, motion) = (call.method.rule.quiet, call.motion.clone());
        let age_here = about(age);
        call.bounds.end.when(async move {
            tokio::select! {
                biased;
                () = draining.cancelled() => shutting_down(),
                () = sleep(age_here) => {
                    metrics.refused("max_stream_age");
                    open_for_too_long(age)
                }
                () = nothing_moves(&motion, idle), if !quiet => {
                    metrics.refused("idle_timeout");
                    idle_for_too_long(idle)
                }
            }
        });
        inner.call(request)
    }
}

/// Completes when there was no frame for `idle`, or up to a quarter longer. That way a
/// frame needs no look at the clock.
async fn nothing_moves(motion: &Motion, idle: Duration) {
    let mut quiet = 0;
    while quiet < 4 {
        sleep(idle / 4).await;
        quiet = if motion.moved() { 0 } else { quiet + 1 };
    }
}

//! What every call passes, health and reflection included: [`stack`] has the order
//! and the reasons.
//!
//! A layer answers with a `Status`, never with an error: an error would reach the
//! client as a reset stream, without code or reason. Each of them holds for the
//! whole life of a call, not only until the head of its response. One that needs
//! to know the call refuses it when nothing has begun it.

mod around;
mod auth;
mod call;
mod deadline;
mod ending;
mod faults;
mod head;
mod lifetime;
mod limits;
mod pages;
mod trace;
mod watched;
mod web;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, util::option_layer};

pub(crate) use self::head::READ as HEAD_READ;
pub use self::{
    around::HttpService,
    call::{Call, IdleTimeoutSuspended},
    watched::{Passed, Told, Watcher},
};
use self::{
    around::{OfCall, Shared},
    auth::Auth,
    deadline::Deadline,
    ending::Ending,
    faults::Faults,
    head::Head,
    lifetime::Lifetime,
    limits::Limits,
    trace::Trace,
    watched::Watched,
    web::Web,
};
use crate::{methods::Methods, metrics::Metrics, settings::Settings, tokens::Tokens};

/// Puts the layers around `routes`.
pub(crate) fn stack<S: HttpService>(
    settings: &Settings,
    methods: Methods,
    metrics: &Arc<Metrics>,
    watcher: Option<Watcher>,
    draining: CancellationToken,
    routes: S,
) -> impl HttpService + use<S> {
    let limits = &settings.limits;
    ServiceBuilder::new()
        // Lets in gRPC alone, and no call of a page that may not call. Translates
        // gRPC-Web, so that everything further in sees gRPC.
        .layer(Shared::new(Web::new(settings, metrics.clone())))
        // Begins the call. Outside of all that can refuse it, so that this is seen
        // as well, in the log and in the metrics. Both count the same frames, so
        // they are one layer.
        .layer(Shared::new(Trace { methods: Arc::new(methods), metrics: metrics.clone() }))
        // Sees what the client gets to see, refusals included.
        .layer(Shared::new(Watched(watcher)))
        // Before anything looks at the metadata.
        .layer(Shared::new(Head { limit: limits.headers, metrics: metrics.clone() }))
        // A call that is too much is refused before anything is done for it.
        .layer(Shared::new(OfCall(Limits::new(limits, settings.tokens.is_some(), metrics.clone()))))
        // Nobody further in works for who may not call.
        .layer(Shared::new(OfCall(Auth::new(settings.tokens.as_ref().map(Tokens::callers), limits.buffered))))
        // Ends streams, on shutdown among others. Around the deadline, so that one
        // that is waited out is not cut short.
        .layer(Shared::new(OfCall(Lifetime {
            draining,
            idle: limits.idle,
            age: limits.age,
            metrics: metrics.clone(),
        })))
        // The time that the handler has, and nobody else.
        .layer(Shared::new(OfCall(Deadline {
            unary: limits.unary_deadline,
            most_unary: limits.max_unary_deadline,
        })))
        // Ends the call when one of the two says so, or what is held for it is too
        // much.
        .layer(Shared::new(OfCall(Ending)))
        // Innermost, so that everything around sees faults as it would see those
        // of a handler.
        .layer(option_layer(settings.allow_faults.then(|| Shared::new(Faults))))
        .service(routes)
}

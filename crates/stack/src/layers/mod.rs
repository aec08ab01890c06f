//! The layers that every call passes, including health and reflection. [`stack`] has
//! their order and its reasons.
//!
//! A layer answers with a `Status`, never with an error: an error would reach the
//! client as a reset stream without a code or reason. Each layer applies for the whole
//! life of a call, not only until the headers of its response. A layer that needs the
//! `Call` refuses a request without one.

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
        // Accepts only gRPC, and no calls of pages that are not allowed. Translates
        // gRPC-Web, so that all inner layers see gRPC.
        .layer(Shared::new(Web::new(settings, metrics.clone())))
        // Begins the call. It is outside of everything that can refuse the call, so
        // that the log and the metrics include refusals. Both count the same frames, so
        // they are one layer.
        .layer(Shared::new(Trace { methods: Arc::new(methods), metrics: metrics.clone() }))
        // Sees what the client sees, including refusals.
        .layer(Shared::new(Watched(watcher)))
        // Before any layer reads the metadata.
        .layer(Shared::new(Head { limit: limits.headers, metrics: metrics.clone() }))
        // Refuses a call over the limit before any work is done for it.
        .layer(Shared::new(OfCall(Limits::new(limits, settings.tokens.is_some(), metrics.clone()))))
        // The inner layers do no work for callers without permission.
        .layer(Shared::new(OfCall(Auth::new(settings.tokens.as_ref().map(Tokens::callers), limits.buffered))))
        // Ends streams, for example on shutdown. Outside of the deadline, so that a
        // unary call that shutdown waits for is not cut short.
        .layer(Shared::new(OfCall(Lifetime {
            draining,
            idle: limits.idle,
            age: limits.age,
            metrics: metrics.clone(),
        })))
        // Limits the time of the handler only.
        .layer(Shared::new(OfCall(Deadline {
            unary: limits.unary_deadline,
            most_unary: limits.max_unary_deadline,
        })))
        // Ends the call when one of the two layers before says so, or when too many
        // bytes are held for it.
        .layer(Shared::new(OfCall(Ending)))
        // Innermost, so that all other layers see faults like those of a handler.
        .layer(option_layer(settings.allow_faults.then(|| Shared::new(Faults))))
        .service(routes)
}

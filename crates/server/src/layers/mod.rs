//! The stack that every call passes, health and reflection included, from the
//! outside in:
//!
//! 1. [`web`]: translates gRPC-Web, so that everything further in sees gRPC. What
//!    is gRPC passes it by.
//! 2. [`trace`]: outside of all that can refuse a call, so that this is seen as
//!    well, in the log and in the metrics. Both count the same frames, so they are
//!    one.
//! 3. [`limits`]: a call that is too much is refused before anything is done for
//!    it.
//! 4. [`auth`]: nobody further in works for who may not call.
//! 5. [`lifetime`]: ends streams, on shutdown among others. Around the deadline,
//!    so that one that is waited out is not cut short.
//! 6. [`deadline`]: the time that the handler has, and nobody else.
//! 7. [`faults`]: innermost, so that everything around sees them as it would see
//!    those of a handler.
//!
//! A layer answers with a `Status`, never with an error: an error would reach
//! the client as a reset stream, without code or reason. Each of them holds for
//! the whole life of a call, not only until the head of its response.

mod auth;
mod call;
mod deadline;
mod ending;
mod faults;
mod lifetime;
mod limits;
mod methods;
mod trace;
mod web;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tower::{
    ServiceBuilder,
    layer::util::{Identity, Stack},
    util::{Either, option_layer},
};

use self::{
    auth::Auth, deadline::Deadline, faults::Faults, lifetime::Lifetime, limits::Limits, trace::Trace,
    web::Web,
};
pub(crate) use self::{
    call::{Call, Excuse},
    methods::Methods,
};
use crate::{activity::Activity, config::Config, metrics::Metrics, tokens::Tokens};

type Optional<L> = Either<L, Identity>;
type Within<S, L> = Stack<L, S>;
type Guarded = Within<Within<Within<Within<Identity, Web>, Trace>, Limits>, Auth>;
/// The stack, to be put around the routes.
pub(crate) type Layers = Within<Within<Within<Guarded, Lifetime>, Deadline>, Optional<Faults>>;

pub(crate) fn stack(
    config: &Config,
    methods: &Arc<Methods>,
    activity: Arc<Activity>,
    metrics: &Arc<Metrics>,
    shutdown: CancellationToken,
) -> Layers {
    let limits = &config.limits;
    let auth = Auth {
        callers: config.tokens.as_ref().map(Tokens::callers),
        open_reflection: config.open_reflection,
    };
    ServiceBuilder::new()
        .layer(Web::new(&config.grpc_web_origins))
        .layer(Trace {
            methods: methods.clone(),
            activity,
            metrics: metrics.clone(),
            of_methods: config.metrics.is_some(),
        })
        .layer(Limits::new(limits, metrics.clone()))
        .layer(auth)
        .layer(Lifetime { shutdown, idle: limits.idle, age: limits.age, metrics: metrics.clone() })
        .layer(Deadline { unary: limits.unary_deadline })
        .layer(option_layer(config.allow_faults.then_some(Faults)))
        .into_inner()
}

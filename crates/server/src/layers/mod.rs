//! The stack that every call passes, health and reflection included, from the
//! outside in:
//!
//! 1. [`trace`]: outermost, so that what a layer below refuses is seen as well.
//! 2. [`limits`]: a call that is too much is refused before anything is done for
//!    it.
//! 3. [`lifetime`]: ends streams, on shutdown among others. Around the deadline,
//!    so that one that is waited out is not cut short.
//! 4. [`deadline`]: the time that the handler has, and nobody else.
//!
//! A layer answers with a `Status`, never with an error: an error would reach
//! the client as a reset stream, without code or reason. Each of them holds for
//! the whole life of a call, not only until the head of its response.

mod deadline;
mod ending;
mod lifetime;
mod limits;
mod methods;
mod trace;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tower::{
    ServiceBuilder,
    layer::util::{Identity, Stack},
};

use self::{deadline::Deadline, lifetime::Lifetime, limits::Limits, methods::Methods, trace::Trace};
use crate::{activity::Activity, config};

type Layers = Stack<Deadline, Stack<Lifetime, Stack<Limits, Stack<Trace, Identity>>>>;

pub(crate) fn stack(
    limits: &config::Limits,
    activity: Arc<Activity>,
    shutdown: CancellationToken,
) -> Result<Layers, prost_reflect::DescriptorError> {
    let methods = Arc::new(Methods::load()?);
    let config::Limits { calls, message, command, unary_deadline, idle, age, .. } = *limits;
    Ok(ServiceBuilder::new()
        .layer(Trace { methods: methods.clone(), activity })
        .layer(Limits::new(methods.clone(), calls, message, command))
        .layer(Lifetime { methods: methods.clone(), shutdown, idle, age })
        .layer(Deadline { methods, unary: unary_deadline })
        .into_inner())
}

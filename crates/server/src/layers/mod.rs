//! The stack that every call passes, health and reflection included, from the
//! outside in:
//!
//! 1. [`trace`]: outermost, so that what a layer below refuses is seen as well.
//! 2. [`drain`]: ends streams when the server shuts down.
//!
//! A layer answers with a `Status`, never with an error: an error would reach
//! the client as a reset stream, without code or reason.

mod drain;
mod methods;
mod trace;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tower::{
    ServiceBuilder,
    layer::util::{Identity, Stack},
};

use self::{drain::Drain, methods::Methods, trace::Trace};
use crate::activity::Activity;

pub(crate) fn stack(
    activity: Arc<Activity>,
    shutdown: CancellationToken,
) -> Result<Stack<Drain, Stack<Trace, Identity>>, prost_reflect::DescriptorError> {
    let methods = Arc::new(Methods::load()?);
    let trace = Trace { methods: methods.clone(), activity };
    Ok(ServiceBuilder::new().layer(trace).layer(Drain { methods, shutdown }).into_inner())
}

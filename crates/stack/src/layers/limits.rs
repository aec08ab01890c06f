//! The limits of one call: a permit for as long as it is open, and a maximum size of
//! messages.

use std::{convert::Infallible, sync::Arc};

use grpc_wire::Mode;
use tokio::sync::Semaphore;
use tower::Service;

use super::{
    around::{AroundCall, Request, Response, ResponseFuture, refuse},
    call::{Call, Places},
};
use crate::{methods::Access, metrics::Metrics, settings, status::too_many_calls};

pub(super) struct Limits {
    places: Arc<Semaphore>,
    calls: usize,
    /// A tenth of the permits, for calls that need no token on a server that requires
    /// tokens. So such calls cannot keep out callers with a token.
    open: Option<(Arc<Semaphore>, usize)>,
    message: u32,
    unary_message: u32,
    metrics: Arc<Metrics>,
}

impl Limits {
    pub(super) fn new(limits: &settings::Limits, tokens: bool, metrics: Arc<Metrics>) -> Self {
        let settings::Limits { calls, message, unary_message, .. } = *limits;
        let places = |most| Arc::new(Semaphore::new(most));
        let share = (calls / 10).max(1);
        let open = tokens.then(|| (places(share), share));
        Self { places: places(calls), calls, open, message, unary_message, metrics }
    }

    /// The permits of a call, or the limit of the first one that is exhausted.
    fn places(&self, call: &Call) -> Result<Places, usize> {
        let place = |places: &Arc<Semaphore>, most| places.clone().try_acquire_owned().map_err(|_| most);
        let open = self.open.as_ref().filter(|_| call.method.rule.access == Access::Everyone);
        let open = open.map(|(places, share)| place(places, *share)).transpose()?;
        Ok((place(&self.places, self.calls)?, open))
    }
}

impl<S> AroundCall<S> for Limits
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
{
    fn call(&self, call: &Arc<Call>, request: Request, inner: &mut S) -> ResponseFuture {
        let places = match self.places(call) {
            Ok(places) => places,
            Err(most) => {
                self.metrics.refused("max_calls");
                return refuse(too_many_calls(most));
            }
        };
        let by_mode = if call.mode() == Some(Mode::Unary) { self.unary_message } else { self.message };
        call.bound(call.method.rule.max_message.unwrap_or(by_mode), places);
        inner.call(request)
    }
}

//! Requires a token for the mode of the call.
//!
//! A rule may allow everyone, or everyone with a token. Health is open, because health checkers are
//! often not callers. Reflection is open on request. The log has the name of the caller, but never
//! the token.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tokio::sync::watch;
use tonic::Status;
use tower::Service;
use tracing::Span;

use super::{
    around::{AroundCall, Request, Response, ResponseFuture, refuse},
    call::Call,
};
use crate::{
    bounds::{Budget, lock},
    methods::Access,
    status::{mode_not_allowed, token_missing, token_unknown},
    tokens::Callers,
};

pub(super) struct Auth {
    /// Unset, everyone is let in.
    callers: Option<watch::Receiver<Callers>>,
    /// What the server may hold for all calls of a caller, in bytes.
    buffered: usize,
    /// By the names of callers. A name that leaves the file of tokens stays here.
    budgets: Mutex<HashMap<String, Arc<Budget>>>,
}

impl Auth {
    /// A caller may take half of what the server may hold.
    pub(super) fn new(callers: Option<watch::Receiver<Callers>>, buffered: usize) -> Self {
        Self { callers, buffered: buffered / 2, budgets: Mutex::default() }
    }
}

impl<S> AroundCall<S> for Auth
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
{
    fn call(&self, call: &Arc<Call>, mut request: Request, inner: &mut S) -> ResponseFuture {
        let Some(callers) = &self.callers else { return inner.call(request) };
        match self.allow(callers, call, request.headers()) {
            Ok(()) => {
                // Nobody further in needs it, and nobody there can log it. A probe
                // says that there was one.
                if let Some(token) = request.headers_mut().get_mut(AUTHORIZATION) {
                    *token = HeaderValue::from_static("");
                }
                inner.call(request)
            }
            Err(refused) => refuse(refused),
        }
    }
}

impl Auth {
    fn allow(
        &self,
        callers: &watch::Receiver<Callers>,
        call: &Call,
        headers: &HeaderMap,
    ) -> Result<(), Status> {
        let rule = call.method.rule;
        if rule.access == Access::Everyone {
            return Ok(());
        }
        let token = bearer(headers).ok_or_else(token_missing)?;
        let callers = callers.borrow();
        let (name, modes) = callers.find(token).ok_or_else(token_unknown)?;
        Span::current().record("caller", name);
        call.bounds.held.count_for(self.budget(name));
        // Methods that nobody knows are for every caller.
        match rule.mode.or(call.mode()) {
            Some(mode) if rule.access == Access::Mode && !modes.contains(&mode) => {
                Err(mode_not_allowed(name, mode, modes))
            }
            _ => Ok(()),
        }
    }

    fn budget(&self, caller: &str) -> Arc<Budget> {
        let mut budgets = lock(&self.budgets);
        if let Some(budget) = budgets.get(caller) {
            return budget.clone();
        }
        budgets.entry(caller.to_owned()).or_insert_with(|| Arc::new(Budget::new(self.buffered))).clone()
    }
}

/// The token of `authorization: Bearer TOKEN`. The scheme is in any case, as RFC
/// 9110 has it.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

//! Lets in who has a token for the mode of the call.
//!
//! Health is for everyone, since who asks for it is often not who calls;
//! reflection is when the server was told so. The name of the caller, and never
//! the token, is in the log.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tokio::sync::watch;
use tonic::Status;
use tower::{Layer, Service};
use tracing::Span;

use super::{
    call::Call,
    ending::{Request, Response, ResponseFuture},
    methods::is_about_the_server,
};
use crate::{
    error::{mode_not_allowed, token_missing, token_unknown},
    tokens::Callers,
};

#[derive(Clone)]
pub(crate) struct Auth {
    /// Unset, everyone is let in.
    pub(crate) callers: Option<watch::Receiver<Callers>>,
    pub(crate) open_reflection: bool,
}

#[derive(Clone)]
pub(crate) struct AuthService<S> {
    layer: Arc<Auth>,
    inner: S,
}

impl<S> Layer<S> for Auth {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthService { layer: Arc::new(self.clone()), inner }
    }
}

impl<S> Service<Request> for AuthService<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let Some(callers) = &self.layer.callers else { return self.inner.call(request) };
        match self.layer.allow(callers, &request) {
            Ok(()) => {
                // Nobody further in needs it, and nobody there can log it. A probe
                // says that there was one.
                if let Some(token) = request.headers_mut().get_mut(AUTHORIZATION) {
                    *token = HeaderValue::from_static("");
                }
                self.inner.call(request)
            }
            Err(refused) => Box::pin(std::future::ready(Ok(refused.into_http()))),
        }
    }
}

impl Auth {
    fn allow(&self, callers: &watch::Receiver<Callers>, request: &Request) -> Result<(), Status> {
        let path = request.uri().path();
        let is_open = path.starts_with("/grpc.health.v1.")
            || self.open_reflection && path.starts_with("/grpc.reflection.");
        if is_open {
            return Ok(());
        }
        let token = bearer(request.headers()).ok_or_else(token_missing)?;
        let callers = callers.borrow();
        let (name, modes) = callers.find(token).ok_or_else(token_unknown)?;
        Span::current().record("caller", name);
        // Reflection, and methods that nobody knows, are for every caller.
        match Call::of(request).and_then(|call| call.mode) {
            Some(mode) if !is_about_the_server(path) && !modes.contains(&mode) => {
                Err(mode_not_allowed(name, mode, modes))
            }
            _ => Ok(()),
        }
    }
}

/// The token of `authorization: Bearer TOKEN`. The scheme is in any case, as RFC
/// 9110 has it.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

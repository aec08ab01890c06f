//! Refuses a call whose headers are too long, with a status.
//!
//! The HTTP/2 and HTTP/1.1 parsers know no gRPC status, so they are set to accept
//! [`READ`] times as much. They refuse still longer headers themselves.

use std::{convert::Infallible, sync::Arc};

use http::uri::{Authority, PathAndQuery};
use tower::Service;

use super::around::{Around, Request, Response, ResponseFuture, refuse};
use crate::{metrics::Metrics, status::head_too_long};

/// The headers that are read may have this many times the limit.
pub(crate) const READ: u32 = 8;

pub(super) struct Head {
    /// In bytes as HTTP/2 counts them.
    pub(super) limit: u32,
    pub(super) metrics: Arc<Metrics>,
}

impl<S> Around<S> for Head
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
{
    type Future = ResponseFuture;

    fn call(&self, request: Request, inner: &mut S) -> ResponseFuture {
        let length = length(&request);
        if length > self.limit as usize {
            self.metrics.refused("max_headers");
            return refuse(head_too_long(length, self.limit));
        }
        inner.call(request)
    }
}

/// Name, value and 32 bytes for each field (RFC 9113, section 6.5.2), in every version
/// of HTTP.
fn length(request: &Request) -> usize {
    let uri = request.uri();
    let pseudo = [
        (":method", Some(request.method().as_str())),
        (":scheme", uri.scheme_str()),
        (":authority", uri.authority().map(Authority::as_str)),
        (":path", uri.path_and_query().map(PathAndQuery::as_str)),
    ];
    let pseudo = pseudo.into_iter().filter_map(|(name, value)| Some(name.len() + value?.len()));
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    pseudo.chain(fields).map(|length| length + 32).sum()
}

//! What generated clients call by.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tonic::{Code, Status, TimeoutExpired, body::Body, transport};
use tower::Service;

use crate::{OutgoingMetadata, Unanswered, deadline::Deadline};

/// A connection to one server. Every call says who makes it.
#[derive(Debug, Clone)]
pub struct Channel {
    pub(crate) inner: transport::Channel,
    pub(crate) metadata: Arc<OutgoingMetadata>,
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Unanswered;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.inner, cx).map_err(Unanswered::from)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        self.metadata.identify(&mut request);
        let deadline = Deadline::of(request.headers());
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await.map_err(|error| match deadline.has_ended(&error) {
                true => Unanswered::TimedOut(TimeoutExpired(())),
                false => error.into(),
            })?;
            let late = move |status: Status| match deadline.has_ended(&status) {
                true => Status::from_error(Box::new(TimeoutExpired(()))),
                false => status,
            };
            Ok(without_page(response).map(|body| Body::new(body.map_err(late))))
        })
    }
}

/// An answer that is none of gRPC, such as the page of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not gRPC, but HTTP {0}")]
pub(crate) struct Page(pub(crate) StatusCode);

impl Page {
    /// What the status of HTTP means for a call, as gRPC's
    /// `http-grpc-status-mapping.md` has it.
    pub(crate) fn code(self) -> Code {
        match self.0 {
            StatusCode::BAD_REQUEST => Code::Internal,
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::NOT_FOUND => Code::Unimplemented,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
            _ => Code::Unknown,
        }
    }
}

/// Puts an error in the place of a page: tonic would read it as messages, and say
/// that they are malformed.
fn without_page(response: http::Response<Body>) -> http::Response<Body> {
    let status = response.status();
    if status == StatusCode::OK || response.headers().contains_key(Status::GRPC_STATUS) {
        return response;
    }
    let page: Result<Frame<Bytes>, _> = Err(Status::from_error(Box::new(Page(status))));
    response.map(|_| Body::new(StreamBody::new(tokio_stream::once(page))))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio_stream::once;

    use super::*;
    use crate::{CallError, Kind};

    /// What a client reads in an answer with this status of HTTP.
    async fn read(status: StatusCode, grpc_status: Option<&str>) -> Result<Bytes, CallError> {
        let page: Result<Frame<Bytes>, Status> = Ok(Frame::data(Bytes::from_static(b"<html>")));
        let mut response = http::Response::new(Body::new(StreamBody::new(once(page))));
        *response.status_mut() = status;
        if let Some(grpc_status) = grpc_status {
            response.headers_mut().insert(Status::GRPC_STATUS, grpc_status.parse().unwrap());
        }
        let collected = without_page(response).into_body().collect().await;
        collected.map(http_body_util::Collected::to_bytes).map_err(CallError::from)
    }

    #[tokio::test]
    async fn a_page_is_known_by_its_status_whatever_is_in_it() {
        let error = read(StatusCode::BAD_GATEWAY, None).await.unwrap_err();
        assert_eq!((error.kind, error.code()), (Kind::Page(StatusCode::BAD_GATEWAY), Code::Unavailable));
        assert_eq!(error.message, "the answer is not gRPC, but HTTP 502 Bad Gateway");
        assert!(error.may_be_tried_again());
        // These are answers of gRPC.
        assert!(read(StatusCode::OK, None).await.is_ok());
        assert!(read(StatusCode::BAD_GATEWAY, Some("14")).await.is_ok());
    }
}

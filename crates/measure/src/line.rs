//! The connections that are measured: nothing on them that looks at messages, as
//! the timeline does elsewhere.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use grpc_wire::body::{Observer, Seen, observe};
use http::HeaderMap;
use tonic::{body::Body, client::Grpc};
use tower::Service;
use transport::{CallError, Channel, Traffic};

use crate::{Request, times::Sending};

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    channel: Channel,
    /// Of each call: who calls, the trace, faults. The same each time, so that HTTP/2
    /// makes next to nothing of them: what is measured is the messages.
    headers: HeaderMap,
    /// Told how long streams wait to be sent, if anybody wants to know.
    sending: Option<Arc<Sending>>,
}

impl Line {
    /// # Errors
    ///
    /// As [`Connector::connect`](transport::Connector::connect).
    pub(crate) async fn open(request: &Request, traffic: Arc<Traffic>) -> Result<Self, CallError> {
        let Request { server, connector, .. } = request;
        let channel = connector.connect_counted(server, traffic).await?;
        let mut call = http::Request::new(());
        call.headers_mut().extend(connector.metadata.faults().clone());
        connector.metadata.identify(&mut call);
        if let Some(measured) = &request.call {
            call.headers_mut().extend(measured.metadata.clone());
        }
        Ok(Self { channel, headers: call.into_parts().0.headers, sending: None })
    }

    /// For unary calls, and for those that only receive.
    pub(crate) fn client(&self) -> Grpc<Self> {
        Grpc::new(self.clone()).max_decoding_message_size(usize::MAX)
    }

    /// For streams of requests.
    pub(crate) fn streaming(&self, sending: &Arc<Sending>) -> Grpc<Self> {
        Self { sending: Some(sending.clone()), ..self.clone() }.client()
    }
}

impl Service<http::Request<Body>> for Line {
    type Response = http::Response<Body>;
    type Error = <Channel as Service<http::Request<Body>>>::Error;
    type Future = <Channel as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.channel, cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.headers_mut().extend(self.headers.clone());
        match self.sending.clone() {
            Some(sending) => {
                self.channel.call(request.map(|body| observe(body, Timed { sending, handed: None })))
            }
            None => self.channel.call(request),
        }
    }
}

/// Sees how long each piece of a body took to be sent: HTTP/2 asks for the next
/// one only when flow control has let go of the one before.
struct Timed {
    sending: Arc<Sending>,
    handed: Option<Instant>,
}

impl Observer for Timed {
    fn ask<T>(&mut self, next: impl FnOnce() -> T) -> T {
        if let Some(handed) = self.handed.take() {
            self.sending.blocked(handed.elapsed());
        }
        next()
    }

    fn see(&mut self, seen: Seen<'_>, _: &Body) {
        self.handed = (!matches!(seen, Seen::End)).then(Instant::now);
    }
}

//! The connections that are measured: nothing on them that looks at messages, as
//! the timeline does elsewhere.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use grpc_wire::body::{Observer, Seen, observe};
use http::HeaderMap;
use tokio::runtime::Handle;
use tonic::{body::Body, client::Grpc};
use tower::Service;
use transport::{Channel, Traffic};

use crate::{Request, times::Sending, work::Error};

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    channel: Channel,
    /// Of each call: who calls, the trace, faults. The same each time, so that HTTP/2
    /// makes next to nothing of them: what is measured is the messages.
    pub(crate) headers: HeaderMap,
    /// Told how long streams wait to be sent, if anybody wants to know.
    sending: Option<Arc<Sending>>,
    /// Where its calls are made.
    pub(crate) thread: Handle,
}

impl Line {
    /// Connects on a thread.
    ///
    /// # Errors
    ///
    /// As [`Connector::connect`](transport::Connector::connect).
    pub(crate) async fn open(
        request: &Request,
        traffic: Arc<Traffic>,
        thread: &Handle,
    ) -> Result<Self, Error> {
        let (server, connector) = (request.server.clone(), request.connector.clone());
        let metadata = connector.metadata.clone();
        let connecting = async move { connector.connect_counted(&server, traffic).await };
        let channel = thread.spawn(connecting).await??;
        let mut call = http::Request::new(());
        call.headers_mut().extend(metadata.faults().clone());
        metadata.identify(&mut call);
        if let Some(measured) = &request.call {
            call.headers_mut().extend(measured.metadata.clone());
        }
        Ok(Self { channel, headers: call.into_parts().0.headers, sending: None, thread: thread.clone() })
    }

    /// For calls that only receive.
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
        if !self.headers.is_empty() {
            request.headers_mut().extend(self.headers.clone());
        }
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

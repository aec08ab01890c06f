//! The connections that are measured: nothing on them that looks at messages, as
//! the timeline does elsewhere.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use grpc_wire::body::{Observer, Seen, observe};
use http::HeaderMap;
use shared_proto::fourmodes::v1::measure_service_client::MeasureServiceClient;
use tonic::{
    body::Body,
    transport::{Channel, channel::ResponseFuture},
};
use tower::Service;

use super::measure::Sending;
use crate::{
    config::Config,
    connect::connect_counted,
    failure::{Failure, Stage},
    traffic::Traffic,
};

/// A connection.
#[derive(Debug, Clone)]
pub(super) struct Line {
    channel: Channel,
    /// Of each call: who calls, the trace, faults.
    headers: HeaderMap,
    /// Told how long streams wait to be sent, if anybody wants to know.
    sending: Option<Arc<Sending>>,
}

impl Line {
    /// # Errors
    ///
    /// As [`connect_counted`].
    pub(super) async fn open(config: &Config, traffic: Arc<Traffic>) -> Result<Self, Failure> {
        // One at least, and no other one for this.
        let server = config.servers.first().cloned().unwrap_or_default();
        let connected = connect_counted(&server, &config.connection, traffic).await;
        let channel = connected.map_err(|failure| Failure { stage: Stage::Connecting, ..failure })?;
        let mut request = http::Request::new(());
        config.attached.ask_for_faults(request.headers_mut());
        config.attached.identify(&mut request);
        let headers = request.into_parts().0.headers;
        Ok(Self { channel, headers, sending: None })
    }

    /// For unary calls, and for those that only receive.
    pub(super) fn client(&self) -> MeasureServiceClient<Self> {
        MeasureServiceClient::new(self.clone()).max_decoding_message_size(usize::MAX)
    }

    /// For streams of requests.
    pub(super) fn streaming(&self, sending: &Arc<Sending>) -> MeasureServiceClient<Self> {
        Self { sending: Some(sending.clone()), ..self.clone() }.client()
    }
}

impl Service<http::Request<Body>> for Line {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.channel, cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> ResponseFuture {
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        request.headers_mut().extend(headers);
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

//! The connections that are measured: nothing on them that looks at messages, as
//! the timeline does elsewhere.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use shared_proto::fourmodes::v1::measure_service_client::MeasureServiceClient;
use tonic::{
    Status,
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
                self.channel.call(request.map(|body| Body::new(Timed { body, sending, handed: None })))
            }
            None => self.channel.call(request),
        }
    }
}

/// A body of which it is known how long each piece took to be sent: HTTP/2 asks
/// for the next one only when flow control has let go of the one before.
struct Timed {
    body: Body,
    sending: Arc<Sending>,
    handed: Option<Instant>,
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(handed) = self.handed.take() {
            self.sending.blocked(handed.elapsed());
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.handed = frame.is_some().then(Instant::now);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

//! HTTP/2 for connections that are admitted, by tonic's transport.

use std::io;

use anyhow::Context as _;
use grpc_wire::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::Connected};

use crate::{
    accept::{Admitted, Guard, Guarded, admit},
    layers::HttpService,
    settings::Limits,
};

/// What every connection is connected to.
#[derive(Clone)]
pub(crate) struct Served<S> {
    pub(crate) limits: Limits,
    pub(crate) guard: Guard,
    /// The routes, with the layers around them.
    pub(crate) service: S,
    pub(crate) draining: CancellationToken,
}

impl<S: HttpService> Served<S> {
    pub(crate) fn admit<C, A>(&self, accepted: A) -> impl Stream<Item = Admitted<C>> + use<C, A, S>
    where
        A: Stream<Item = io::Result<C>>,
    {
        admit(self.limits.connections, self.guard.metrics.clone(), accepted)
    }

    /// Until it is draining and every call on these connections has ended.
    pub(crate) async fn serve<C>(self, connections: impl Stream<Item = Admitted<C>>) -> anyhow::Result<()>
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let Self { limits, guard, service, draining } = self;
        Server::builder()
            .accept_http1(true)
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .max_frame_size(limits::FRAME_SIZE)
            .max_concurrent_streams(limits.streams)
            .http2_max_header_list_size(limits.headers)
            // Unset, both are without a limit.
            .http2_max_pending_accept_reset_streams(Some(20))
            .http2_max_local_error_reset_streams(Some(1024))
            .http2_keepalive_interval(Some(limits.keepalive_interval))
            .http2_keepalive_timeout(Some(limits.keepalive_timeout))
            .serve_with_incoming_shutdown(
                service,
                connections.map(|admitted| Ok::<_, io::Error>(Guarded::new(admitted, &guard))),
                draining.cancelled_owned(),
            )
            .await
            .context("the listener failed")
    }
}

//! Client streaming: many requests, one response.
//!
//! Copy: the loop (`readings.rs`), which keeps one message at a time and refuses
//! one bad item without failing the call; items have a number, so that delivering
//! them again is harmless. A client that cancels looks here exactly like one that
//! is done, both end the stream with `None`: where the whole is more than its
//! parts, a message says "this was all" (`upload.rs`).
//! Leave: numbers for each producer and device, where one number a call will do.

mod readings;
pub(super) mod upload;

use std::sync::Arc;

use domain::collector::Collector;
use shared_proto::fourmodes::v1::{
    RecordReadingsRequest, RecordReadingsResponse, client_streaming_service_server::ClientStreamingService,
};
use tonic::{Request, Response, Status, Streaming};

#[derive(Debug)]
pub(crate) struct ClientStreaming {
    pub(crate) collector: Arc<Collector>,
}

#[tonic::async_trait]
impl ClientStreamingService for ClientStreaming {
    async fn record_readings(
        &self,
        request: Request<Streaming<RecordReadingsRequest>>,
    ) -> Result<Response<RecordReadingsResponse>, Status> {
        Ok(Response::new(readings::collect(self.collector.begin(), request.into_inner()).await?))
    }
}

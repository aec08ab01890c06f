//! Client streaming: many requests, one response.
//!
//! Copy: the loop, which keeps one message at a time, a response that says what
//! was refused instead of failing the call for one bad item, and items that
//! carry a number, so that delivering them again is harmless.
//! Mind: a client that cancels looks here exactly like one that is done, both
//! end the stream with `None`. Where the whole is more than its parts, such as
//! a file, the end of the stream must not complete it: that needs a message
//! that says "this was all".

mod readings;
pub(crate) mod upload;

use std::sync::Arc;

use shared_proto::fourmodes::v1::{
    RecordReadingsRequest, RecordReadingsResponse, client_streaming_service_server::ClientStreamingService,
};
use tonic::{Request, Response, Status, Streaming};

use crate::domain::collector::Collector;

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
        readings::collect(self.collector.begin(), request.into_inner()).await.map(Response::new)
    }
}

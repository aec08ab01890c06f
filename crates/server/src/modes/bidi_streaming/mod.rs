//! Bidirectional streaming: many requests, many responses, neither waits.
//!
//! Copy: the response stream is returned before anything is read. A client that
//! sees no headers yet may not have sent its first message, and a handler that
//! waits for it first would wait for ever. Then one loop that listens to both
//! sides, each of which may be cancelled at its await; what is to be said goes
//! before what is to be read, so a peer that does not read is not read from.
//! Leave: all of it, where one side only answers the other: that is unary calls.

mod chat;
mod sync;

use std::sync::Arc;

use domain::{documents::Documents, rooms::Rooms};
use shared_proto::fourmodes::v1::{
    ChatRequest, ChatResponse, SyncDocumentRequest, SyncDocumentResponse,
    bidi_streaming_service_server::BidiStreamingService,
};
use tonic::{Request, Response, Status, Streaming};

use super::{ResponseStream, responses};

#[derive(Debug)]
pub(crate) struct BidiStreaming {
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) documents: Arc<Documents>,
}

#[tonic::async_trait]
impl BidiStreamingService for BidiStreaming {
    type ChatStream = ResponseStream<ChatResponse>;
    type SyncDocumentStream = ResponseStream<SyncDocumentResponse>;

    async fn chat(
        &self,
        request: Request<Streaming<ChatRequest>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        Ok(Response::new(responses(chat::conversation(self.rooms.clone(), request.into_inner()))))
    }

    async fn sync_document(
        &self,
        request: Request<Streaming<SyncDocumentRequest>>,
    ) -> Result<Response<Self::SyncDocumentStream>, Status> {
        Ok(Response::new(responses(sync::in_step(self.documents.clone(), request.into_inner()))))
    }
}

//! `google.bytestream.ByteStream`: a service whose methods belong to two modes.
//! The handler of each is in the folder of its mode.

use domain::uploads::Uploads;
use grpc_wire::Mode;
use shared_proto::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest,
    WriteResponse, byte_stream_server::ByteStream,
};
use tonic::{Request, Response, Status, Streaming};

use super::{ResponseStream, client_streaming::upload, server_streaming::download};
use crate::refused::mode_not_served;

#[derive(Debug)]
pub(crate) struct ByteStreams {
    pub(crate) served: Vec<Mode>,
    pub(crate) uploads: Uploads,
}

impl ByteStreams {
    pub(crate) const MODES: [Mode; 2] = [Mode::ServerStreaming, Mode::ClientStreaming];

    fn serve(&self, mode: Mode) -> Result<&Uploads, Status> {
        match self.served.contains(&mode) {
            true => Ok(&self.uploads),
            false => Err(mode_not_served(mode, &self.served)),
        }
    }
}

#[tonic::async_trait]
impl ByteStream for ByteStreams {
    type ReadStream = ResponseStream<ReadResponse>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        Ok(download::read(self.serve(Mode::ServerStreaming)?, request.into_inner()).await?)
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        Ok(upload::write(self.serve(Mode::ClientStreaming)?, request.into_inner()).await?)
    }

    /// Unary, but of no use without [`write`](Self::write).
    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        Ok(upload::query(self.serve(Mode::ClientStreaming)?, request.into_inner()).await?)
    }
}

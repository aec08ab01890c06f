//! Unary: one request, one response.
//!
//! Copy: a handler is a plain function from request to response, and `?` turns a domain error into
//! a `Status` by way of `Refused`. A command carries an id that the client has chosen
//! (`submit_task`), so that a client that got no answer can send it again. The command hands work
//! that has to be finished to a task, because the handler itself is dropped at any await when the
//! client goes away.
//! Leave: `get_status`, which is about this server.

mod files;

use std::{sync::Arc, time::SystemTime};

use domain::{
    arithmetic, collector::Collector, documents::Documents, feed::Usage, market::Market, rooms::Rooms,
    tasks::Tasks, uploads::Uploads,
};
use grpc_wire::Mode;
use shared_proto::fourmodes::v1::{
    CancelTaskRequest, CancelTaskResponse, DeleteDocumentRequest, DeleteDocumentResponse, DeleteFileRequest,
    DeleteFileResponse, DeleteRoomRequest, DeleteRoomResponse, GetStatusRequest, GetStatusResponse,
    GetTaskRequest, GetTaskResponse, ListFilesRequest, ListFilesResponse, ModeStatus, MultiplyRequest,
    MultiplyResponse, StateUsage, SubmitTaskRequest, SubmitTaskResponse, unary_service_server::UnaryService,
};
use stack::Activity;
use tonic::{Request, Response, Status};

use super::task::{self, uuid, work};
use crate::refused::Refused;

/// A client that goes away cancels its handler at an await. Tasks that the handler has
/// begun by then run to their end.
#[derive(Debug)]
pub(crate) struct Unary {
    pub(crate) activity: Arc<Activity>,
    /// The start of the server.
    pub(crate) since: SystemTime,
    pub(crate) tasks: Tasks,
    pub(crate) served: Vec<Mode>,
    pub(crate) uploads: Uploads,
    pub(crate) documents: Arc<Documents>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) market: Arc<Market>,
    pub(crate) collector: Arc<Collector>,
}

impl Unary {
    async fn usage(&self) -> Result<Vec<StateUsage>, Refused> {
        let devices = Usage { count: self.collector.devices().await?, bytes: 0 };
        let [files, content, uploads] = self.uploads.usage().await?;
        let usages = [
            ("rooms", self.rooms.usage().await?),
            ("documents", self.documents.usage().await?),
            ("quotes", self.market.usage().await?),
            ("devices", devices),
            ("files", files),
            ("content", content),
            ("uploads", uploads),
        ];
        let usages =
            usages.map(|(kind, Usage { count, bytes })| StateUsage { kind: kind.to_owned(), count, bytes });
        Ok(usages.into())
    }
}

#[tonic::async_trait]
impl UnaryService for Unary {
    async fn multiply(
        &self,
        request: Request<MultiplyRequest>,
    ) -> Result<Response<MultiplyResponse>, Status> {
        let MultiplyRequest { a, b } = request.into_inner();
        let product = arithmetic::multiply(a, b).map_err(Refused::from)?;
        Ok(Response::new(MultiplyResponse { product }))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let modes = Mode::ALL.map(|mode| {
            let counts = self.activity.counts(mode);
            ModeStatus {
                mode: shared_proto::fourmodes::v1::Mode::from(mode).into(),
                served: self.served.contains(&mode),
                calls_started: counts.calls_started,
                calls_open: counts.calls_open,
                messages_received: counts.messages_received,
                messages_sent: counts.messages_sent,
            }
        });
        Ok(Response::new(GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: Some(self.since.into()),
            modes: modes.into(),
            cpu_time: shared_process::cpu_time().and_then(|time| time.try_into().ok()),
            state: self.usage().await?,
        }))
    }

    async fn submit_task(
        &self,
        request: Request<SubmitTaskRequest>,
    ) -> Result<Response<SubmitTaskResponse>, Status> {
        let SubmitTaskRequest { request_id, work: wire } = request.into_inner();
        let task = self.tasks.submit(uuid("request_id", &request_id)?, work(wire)?).await;
        let task = task.map_err(Refused::from)?;
        Ok(Response::new(SubmitTaskResponse { task: Some(task::wire(task)) }))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        let task = self.tasks.get(uuid("id", &request.into_inner().id)?).await.map_err(Refused::from)?;
        Ok(Response::new(GetTaskResponse { task: Some(task::wire(task)) }))
    }

    async fn cancel_task(
        &self,
        request: Request<CancelTaskRequest>,
    ) -> Result<Response<CancelTaskResponse>, Status> {
        let task = self.tasks.cancel(uuid("id", &request.into_inner().id)?).await.map_err(Refused::from)?;
        Ok(Response::new(CancelTaskResponse { task: Some(task::wire(task)) }))
    }

    async fn list_files(
        &self,
        request: Request<ListFilesRequest>,
    ) -> Result<Response<ListFilesResponse>, Status> {
        Ok(Response::new(files::list(&self.uploads, request.into_inner()).await?))
    }

    async fn delete_file(
        &self,
        request: Request<DeleteFileRequest>,
    ) -> Result<Response<DeleteFileResponse>, Status> {
        Ok(Response::new(files::delete(&self.uploads, request.into_inner()).await?))
    }

    async fn delete_document(
        &self,
        request: Request<DeleteDocumentRequest>,
    ) -> Result<Response<DeleteDocumentResponse>, Status> {
        self.documents.remove(&request.into_inner().document).await.map_err(Refused::from)?;
        Ok(Response::new(DeleteDocumentResponse {}))
    }

    async fn delete_room(
        &self,
        request: Request<DeleteRoomRequest>,
    ) -> Result<Response<DeleteRoomResponse>, Status> {
        self.rooms.remove(&request.into_inner().room).await.map_err(Refused::from)?;
        Ok(Response::new(DeleteRoomResponse {}))
    }
}

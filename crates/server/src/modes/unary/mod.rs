//! Unary: one request, one response.
//!
//! Copy: a handler that is a plain function from request to response, and lets
//! `?` turn a domain error into a `Status`.
//! Leave: `GetStatus`, which is about this server.

mod files;

use std::sync::Arc;

use shared_proto::{
    Mode,
    fourmodes::v1::{
        GetStatusRequest, GetStatusResponse, ListFilesRequest, ListFilesResponse, ModeStatus,
        MultiplyRequest, MultiplyResponse, unary_service_server::UnaryService,
    },
};
use tonic::{Request, Response, Status};

use crate::{
    activity::Activity,
    domain::{arithmetic, uploads::Uploads},
};

/// Everything here is cheap and harmless: no handler waits, so none can be
/// cancelled half-way.
#[derive(Debug)]
pub(crate) struct Unary {
    pub(crate) activity: Arc<Activity>,
    pub(crate) served: Vec<Mode>,
    pub(crate) uploads: Uploads,
}

#[tonic::async_trait]
impl UnaryService for Unary {
    async fn multiply(
        &self,
        request: Request<MultiplyRequest>,
    ) -> Result<Response<MultiplyResponse>, Status> {
        let MultiplyRequest { a, b } = request.into_inner();
        let product = arithmetic::multiply(a, b)?;
        Ok(Response::new(MultiplyResponse { product }))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let modes = Mode::ALL.map(|mode| {
            let counters = self.activity.of(mode);
            ModeStatus {
                mode: shared_proto::fourmodes::v1::Mode::from(mode).into(),
                served: self.served.contains(&mode),
                calls_started: counters.started(),
                calls_open: counters.open(),
                messages_received: counters.received(),
                messages_sent: counters.sent(),
            }
        });
        Ok(Response::new(GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: Some(self.activity.start_time.into()),
            modes: modes.into(),
        }))
    }

    async fn list_files(
        &self,
        request: Request<ListFilesRequest>,
    ) -> Result<Response<ListFilesResponse>, Status> {
        files::list(&self.uploads, request.into_inner()).await.map(Response::new)
    }
}

//! `ProbeService`: the four modes by script, and what was seen of each call.
//!
//! A handler decodes, waits and makes messages ([`performance`]). What a handler
//! cannot see or do is below gRPC, in [`watch`].
//!
//! Probes and the interop service are the only services that take compressed
//! messages. A message that was compressed is no longer than a message may be.

mod observation;
mod performance;
mod script;
mod watch;

use std::{pin::Pin, sync::Arc};

use shared_proto::fourmodes::v1::{
    self as pb, BidiStreamingRequest, BidiStreamingResponse, ClientStreamingRequest, ClientStreamingResponse,
    GetObservationRequest, GetObservationResponse, ServerStreamingRequest, ServerStreamingResponse,
    UnaryRequest, UnaryResponse,
    probe_service_server::{ProbeService, ProbeServiceServer},
};
use stack::Limits;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming, codec::CompressionEncoding};
use uuid::Uuid;

use self::{
    observation::Memory,
    performance::{Message, Performance},
    script::{Ending, Script},
    watch::{Watch, Watched},
};
use super::aside::{Aside, Thread};
use crate::refused::{bad_request, no_observation};

/// The service, to be added to the routes.
pub(super) fn service(
    instance_id: Arc<str>,
    limits: Limits,
    thread: &Thread,
) -> Watch<Aside<ProbeServiceServer<Probes>>> {
    let inner = ProbeServiceServer::new(Probes::default())
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Zstd)
        // Bounds what comes out of a compressed message, which the layer that
        // limits messages sees only as it goes in.
        .max_decoding_message_size(limits.message as usize);
    Watch { inner: thread.makes(inner), instance_id, limits }
}

#[derive(Debug, Default)]
pub(crate) struct Probes {
    memory: Memory,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ProbeService for Probes {
    async fn unary(&self, request: Request<UnaryRequest>) -> Result<Response<UnaryResponse>, Status> {
        let watched = watched(&request)?;
        let UnaryRequest { script, payload } = request.into_inner();
        watched.call.received(payload.len());
        let script = self.begin(&watched, script, false).await?;
        let payload = Performance::new(watched.clone(), script).last().await?;
        Ok(Response::new(UnaryResponse { payload, observation: Some(watched.call.observation()) }))
    }

    type ServerStreamingStream = Responses<ServerStreamingResponse>;

    async fn server_streaming(
        &self,
        request: Request<ServerStreamingRequest>,
    ) -> Result<Response<Self::ServerStreamingStream>, Status> {
        let watched = watched(&request)?;
        let ServerStreamingRequest { script, payload } = request.into_inner();
        watched.call.received(payload.len());
        let script = self.begin(&watched, script, false).await?;
        if let Some(status) = only_a_status(&script) {
            return Err(status);
        }
        Ok(Response::new(Box::pin(Performance::new(watched, script).all())))
    }

    async fn client_streaming(
        &self,
        request: Request<Streaming<ClientStreamingRequest>>,
    ) -> Result<Response<ClientStreamingResponse>, Status> {
        let watched = watched(&request)?;
        let mut requests = request.into_inner();
        let script = self.first(&watched, &mut requests).await?;
        let payload = Performance::with(watched.clone(), script, requests).last().await?;
        Ok(Response::new(ClientStreamingResponse { payload, observation: Some(watched.call.observation()) }))
    }

    type BidiStreamingStream = Responses<BidiStreamingResponse>;

    async fn bidi_streaming(
        &self,
        request: Request<Streaming<BidiStreamingRequest>>,
    ) -> Result<Response<Self::BidiStreamingStream>, Status> {
        let watched = watched(&request)?;
        let mut requests = request.into_inner();
        let script = self.first(&watched, &mut requests).await?;
        if let Some(status) = only_a_status(&script) {
            return Err(status);
        }
        Ok(Response::new(Box::pin(Performance::with(watched, script, requests).all())))
    }

    async fn get_observation(
        &self,
        request: Request<GetObservationRequest>,
    ) -> Result<Response<GetObservationResponse>, Status> {
        let GetObservationRequest { call_id } = request.into_inner();
        let id: Uuid =
            call_id.parse().map_err(|_| bad_request("call_id", "call_id is no UUID".to_owned()))?;
        let call = self.memory.find(id).ok_or_else(|| no_observation(&call_id))?;
        Ok(Response::new(GetObservationResponse { observation: Some(call.observation()) }))
    }
}

impl Probes {
    /// The script of a client that streams.
    async fn first<M: Message>(
        &self,
        watched: &Watched,
        requests: &mut Streaming<M>,
    ) -> Result<Script, Status> {
        let script = match requests.message().await? {
            Some(first) => {
                let (script, payload) = first.parts();
                watched.call.received(payload.len());
                script
            }
            None => None,
        };
        self.begin(watched, script, true).await
    }

    /// Takes the script, and waits as long as the head is to wait.
    async fn begin(
        &self,
        watched: &Watched,
        script: Option<pb::Script>,
        client_streams: bool,
    ) -> Result<Script, Status> {
        let mut script = Script::new(script, client_streams)?;
        watched.plan(&mut script);
        if let Some(id) = script.call_id {
            self.memory.remember(id, watched.call.clone());
        }
        if !script.head_delay.is_zero() {
            let _silent = watched.suspend_idle_timeout();
            tokio::time::sleep(script.head_delay).await;
        }
        Ok(script)
    }
}

/// What the script has besides: then there is no head but that of the status.
fn only_a_status(script: &Script) -> Option<Status> {
    match &script.ending {
        Ending::Status(status) if script.steps.is_empty() && status.code() != tonic::Code::Ok => {
            Some(status.clone())
        }
        _ => None,
    }
}

fn watched<T>(request: &Request<T>) -> Result<Watched, Status> {
    let watched = request.extensions().get().cloned();
    watched.ok_or_else(|| Status::internal("the call was not observed: a defect of the server"))
}

//! Tells clients which servers share the state of this one.

use std::{pin::Pin, sync::Arc};

use futures_util::stream;
use shared_proto::{
    fourmodes::v1::{
        Server, WatchServersRequest, WatchServersResponse,
        servers_service_server::{ServersService, ServersServiceServer},
    },
    limits::MONITORING_HEARTBEAT,
};
use tokio::{sync::watch, time::timeout};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::{
    listed::{Listed, Own},
    store::State,
};

pub(super) fn service(own: Arc<Own>, state: &State) -> ServersServiceServer<Servers> {
    let (identity, others) = (state.identity().unwrap_or_default().to_owned(), state.others());
    ServersServiceServer::new(Servers { identity, own, others })
}

#[derive(Debug, Clone)]
pub(super) struct Servers {
    identity: String,
    own: Arc<Own>,
    others: watch::Receiver<Vec<Listed>>,
}

#[tonic::async_trait]
impl ServersService for Servers {
    type WatchServersStream = Pin<Box<dyn Stream<Item = Result<WatchServersResponse, Status>> + Send>>;

    async fn watch_servers(
        &self,
        _: Request<WatchServersRequest>,
    ) -> Result<Response<Self::WatchServersStream>, Status> {
        let mut watching = self.clone();
        watching.others.mark_changed();
        let responses = stream::unfold(watching, |mut watching| async move {
            // When nobody changes it any more, the stream is about to end.
            if let Ok(Err(_)) = timeout(MONITORING_HEARTBEAT, watching.others.changed()).await {
                tokio::time::sleep(MONITORING_HEARTBEAT).await;
            }
            Some((Ok(watching.response()), watching))
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

impl Servers {
    fn response(&mut self) -> WatchServersResponse {
        let server = |listed: Listed, answering| {
            let Listed { url, open_calls, draining } = listed;
            Server { url, open_calls, draining, answering }
        };
        let others = self.others.borrow_and_update().clone();
        let servers = self.own.listed().map(|own| server(own, true)).into_iter();
        let servers = servers.chain(others.into_iter().map(|other| server(other, false)));
        WatchServersResponse { state: self.identity.clone(), servers: servers.collect() }
    }
}

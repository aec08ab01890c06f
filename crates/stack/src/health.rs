//! `grpc.health.v1.Health`, as `health.proto` has it.
//!
//! The one of tonic-health 0.14.9 ends a watch of a service that it does not know
//! with NOT_FOUND. The protocol wants SERVICE_UNKNOWN, and a watch that goes on.

use std::{collections::BTreeMap, pin::Pin};

use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

/// What health says of the services of a server, and of the server itself, whose
/// name is empty.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<BTreeMap<&'static str, ServingStatus>>);

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::from([("", ServingStatus::Serving)])))
    }
}

impl Health {
    /// Whether they can do their work: `SERVING`, or `NOT_SERVING`. Those who watch
    /// them hear of a change.
    pub fn serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.send_modify(|services| services.values_mut().for_each(|it| *it = status));
    }

    pub(crate) fn add(&self, service: &'static str) {
        self.0.send_modify(|services| {
            services.insert(service, ServingStatus::Serving);
        });
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let HealthCheckRequest { service } = request.into_inner();
        let status = self.0.borrow().get(&*service).copied();
        let status = status.ok_or_else(|| Status::not_found("this server has no service of that name"))?;
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let HealthCheckRequest { service } = request.into_inner();
        let mut sent = None;
        let changes = WatchStream::new(self.0.subscribe()).filter_map(move |services| {
            let status = services.get(&*service).copied().unwrap_or(ServingStatus::ServiceUnknown);
            let is_news = sent.replace(status) != Some(status);
            is_news.then(|| Ok(HealthCheckResponse { status: status.into() }))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

#[cfg(test)]
mod tests {
    use health_server::Health as _;

    use super::*;

    #[tokio::test]
    async fn a_watch_of_an_unknown_service_hears_when_it_becomes_known() {
        let health = Health::default();
        let request = HealthCheckRequest { service: "late".to_owned() };
        let mut watch = health.watch(Request::new(request)).await.unwrap().into_inner();
        let mut heard = async || watch.next().await.unwrap().unwrap().status();
        assert_eq!(heard().await, ServingStatus::ServiceUnknown);
        // Of another service it hears nothing.
        health.add("other");
        health.add("late");
        assert_eq!(heard().await, ServingStatus::Serving);
        health.serving(false);
        assert_eq!(heard().await, ServingStatus::NotServing);
    }
}

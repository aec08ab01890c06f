//! `grpc.health.v1.Health`, as `health.proto` has it.
//!
//! tonic-health 0.14.9 ends the watch of an unknown service with NOT_FOUND. The protocol requires
//! SERVICE_UNKNOWN and a watch that continues.

use std::{collections::BTreeSet, pin::Pin};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::{
    Request, Response, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

/// The health of the services of a server, and of the server itself, whose name is empty.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<State>);

#[derive(Debug)]
struct State {
    services: BTreeSet<&'static str>,
    works: bool,
    stops: bool,
    /// Of every answer.
    headers: MetadataMap,
    /// 1 while the server is `SERVING`.
    serving: Gauge,
}

impl State {
    fn of(&self, service: &str) -> ServingStatus {
        match self {
            _ if !self.services.contains(service) => ServingStatus::ServiceUnknown,
            Self { works: true, stops: false, .. } => ServingStatus::Serving,
            _ => ServingStatus::NotServing,
        }
    }

    fn measure(&self) {
        self.serving.set((self.of("") == ServingStatus::Serving).into());
    }
}

impl Default for Health {
    fn default() -> Self {
        let state = State {
            services: BTreeSet::from([""]),
            works: true,
            stops: false,
            headers: MetadataMap::new(),
            serving: Gauge::default(),
        };
        state.measure();
        Self(watch::Sender::new(state))
    }
}

impl Health {
    /// Sets whether the services work: `SERVING` or `NOT_SERVING`. Watchers receive changes. A
    /// server that shuts down is always `NOT_SERVING`.
    pub fn serving(&self, works: bool) {
        self.0.send_modify(|state| {
            state.works = works;
            state.measure();
        });
    }

    /// Sets a header of the answers to `Check`, for clients that have to know more of a server.
    pub fn header(&self, name: &'static str, value: AsciiMetadataValue) {
        self.0.send_modify(|state| drop(state.headers.insert(name, value)));
    }

    /// The metric that follows it.
    pub(crate) fn gauge(&self) -> Gauge {
        self.0.borrow().serving.clone()
    }

    pub(crate) fn stop(&self) {
        self.0.send_modify(|state| {
            state.stops = true;
            state.measure();
        });
    }

    pub(crate) fn add(&self, service: &'static str) {
        self.0.send_modify(|state| {
            state.services.insert(service);
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
        let state = self.0.borrow();
        match state.of(&service) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found("this server has no service of that name"))
            }
            status => {
                let mut response = Response::new(HealthCheckResponse { status: status.into() });
                response.metadata_mut().clone_from(&state.headers);
                Ok(response)
            }
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let HealthCheckRequest { service } = request.into_inner();
        let mut state = self.0.subscribe();
        let changes = async_stream::try_stream! {
            let mut sent = None;
            loop {
                let status = state.borrow_and_update().of(&service);
                if sent.replace(status) != Some(status) {
                    yield HealthCheckResponse { status: status.into() };
                }
                if state.changed().await.is_err() {
                    return;
                }
            }
        };
        Ok(Response::new(Box::pin(changes)))
    }
}

#[cfg(test)]
mod tests {
    use health_server::Health as _;
    use tokio_stream::StreamExt as _;

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
        health.serving(true);
        assert_eq!(heard().await, ServingStatus::Serving);
        // What begins to work while the server stops changes nothing.
        health.stop();
        assert_eq!(heard().await, ServingStatus::NotServing);
        health.serving(false);
        health.serving(true);
        let request = HealthCheckRequest { service: "late".to_owned() };
        let checked = health.check(Request::new(request)).await.unwrap().into_inner();
        assert_eq!(checked.status(), ServingStatus::NotServing);
    }
}

//! Client streaming: many requests, one response.
//!
//! Copy: the loop, which keeps one message at a time, and a response that says
//! what was refused instead of failing the call for one bad item.
//! Mind: a client that cancels looks here exactly like one that is done, both
//! end the stream with `None`. Nothing in this handler outlives the call, so it
//! does not matter; whoever stores something at the end needs a message that
//! says "this was all".

pub(crate) mod upload;

use std::time::SystemTime;

use prost_types::Timestamp;
use shared_proto::{
    fourmodes::v1::{
        self as pb, RecordReadingsRequest, RecordReadingsResponse,
        client_streaming_service_server::ClientStreamingService,
    },
    limits::TIMESTAMP_SECONDS,
};
use tonic::{Request, Response, Status, Streaming};

use crate::domain::readings::{Collection, Reading, Refusal, Statistics};

#[derive(Debug)]
pub(crate) struct ClientStreaming;

#[tonic::async_trait]
impl ClientStreamingService for ClientStreaming {
    async fn record_readings(
        &self,
        request: Request<Streaming<RecordReadingsRequest>>,
    ) -> Result<Response<RecordReadingsResponse>, Status> {
        let mut batches = request.into_inner();
        let mut collection = Collection::default();
        while let Some(batch) = batches.message().await? {
            for reading in batch.readings {
                collection.record(reading.line, reading.try_into());
            }
        }
        Ok(Response::new(collection.into()))
    }
}

impl TryFrom<pb::Reading> for Reading {
    type Error = Refusal;

    fn try_from(wire: pb::Reading) -> Result<Self, Refusal> {
        let in_range = |time: &Timestamp| TIMESTAMP_SECONDS.contains(&time.seconds);
        let time = wire.time.filter(in_range).ok_or(Refusal::Time)?;
        let time = SystemTime::try_from(time).map_err(|_| Refusal::Time)?;
        Ok(Self { device: wire.device, time, value: wire.value })
    }
}

impl From<Collection> for RecordReadingsResponse {
    fn from(collection: Collection) -> Self {
        let refused = collection.refused.iter();
        Self {
            count: collection.count,
            refused_count: collection.refused_count,
            refused: refused
                .map(|(line, reason)| pb::RefusedReading { line: *line, reason: reason.to_string() })
                .collect(),
            devices: collection.statistics().into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Statistics> for pb::DeviceStatistics {
    fn from(statistics: Statistics) -> Self {
        let [p50, p95, p99] = statistics.percentiles;
        Self {
            device: statistics.device,
            count: statistics.count,
            first_time: Some(statistics.first.into()),
            last_time: Some(statistics.last.into()),
            min: statistics.min,
            max: statistics.max,
            mean: statistics.mean,
            standard_deviation: statistics.standard_deviation,
            p50,
            p95,
            p99,
        }
    }
}

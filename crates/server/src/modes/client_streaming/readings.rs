//! A collection: batches come in, and what they come to goes out at the end.
//!
//! Copy: one batch at a time in memory, and a checkpoint now and then, so that a
//! call that lasts for days is not one commit. An item that makes no sense is
//! listed in the response; a batch that does not fit ends the call.
//! Leave: taking the end of the stream for an end. It is right here because each
//! batch is whole in itself; for a whole of many parts copy `upload.rs`. And the
//! statistics, which are this service's own.

use std::time::{Duration, SystemTime};

use domain::{
    collector::{Collected, Collection, Tally},
    readings::{Reading, Refusal},
};
use prost_types::Timestamp;
use shared_proto::{
    fourmodes::v1::{self as pb, RecordReadingsRequest, RecordReadingsResponse},
    limits::TIMESTAMP_SECONDS,
};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tonic::Streaming;

use crate::refused::Refused;

/// How often a call that goes on makes durable what it has: what a crash costs
/// is to deliver so much again.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// Takes batches until the client ends the stream, or seems to: it may as well
/// have cancelled. Either way each batch is whole in itself, so they are
/// accepted, and a client that is not there any more merely gets no answer.
///
/// May be dropped at any await. What was not through a checkpoint is lost then,
/// and the client, unanswered, delivers it again.
pub(super) async fn collect(
    mut collection: Collection,
    mut batches: Streaming<RecordReadingsRequest>,
) -> Result<RecordReadingsResponse, Refused> {
    let mut checkpoint = interval_at(Instant::now() + CHECKPOINT, CHECKPOINT);
    checkpoint.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = checkpoint.tick() => collection.checkpoint().await?,
            batch = batches.message() => match batch? {
                Some(RecordReadingsRequest { producer_id, device, sequence, readings }) => {
                    let readings = readings.into_iter().map(|reading| (reading.line, accepted(reading)));
                    collection.record(&producer_id, &device, sequence, readings).await?;
                }
                None => break,
            },
        }
    }
    let (tally, collected) = collection.finish().await?;
    Ok(response(tally, collected))
}

fn accepted(wire: pb::Reading) -> Result<Reading, Refusal> {
    let in_range = |time: &Timestamp| TIMESTAMP_SECONDS.contains(&time.seconds);
    let time = wire.time.filter(in_range).ok_or(Refusal::Time)?;
    let time = SystemTime::try_from(time).map_err(|_| Refusal::Time)?;
    Ok(Reading { time, value: wire.value })
}

fn response(tally: Tally, collected: Vec<Collected>) -> RecordReadingsResponse {
    let refused = tally.refused.into_iter();
    RecordReadingsResponse {
        count: tally.count,
        repeated_count: tally.repeated_count,
        refused_count: tally.refused_count,
        refused: refused
            .map(|(line, reason)| pb::RefusedReading { line, reason: reason.to_string() })
            .collect(),
        devices: collected.into_iter().map(wire).collect(),
    }
}

fn wire(Collected { device, accepted_through, statistics }: Collected) -> pb::DeviceStatistics {
    let Some(statistics) = statistics else {
        return pb::DeviceStatistics { device, accepted_through, ..Default::default() };
    };
    let [p50, p95, p99] = statistics.percentiles;
    pb::DeviceStatistics {
        device,
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
        accepted_through,
    }
}

//! Server streaming: one request, many responses.
//!
//! Copy: a stream that is pulled. Nothing is produced before the transport asks
//! for it, so a slow client slows the source down instead of filling a queue, and
//! a client that goes away drops the stream and all it holds. What blocks runs
//! beside the threads that serve calls (`blocking`). What many look at is read
//! once for all of them (`watch_system`).
//! Leave: the bounds on intervals, unless a client chooses yours as well.

pub(crate) mod download;
mod feed;
mod log;
mod task;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use domain::{
    logs::Logs,
    market::Market,
    platform, quotes,
    system::{self, Load},
    tasks::Tasks,
};
use shared_proto::{
    duration,
    fourmodes::v1::{self, server_streaming_service_server::ServerStreamingService},
};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::{Stream, StreamExt as _, wrappers::IntervalStream};
use tonic::{Request, Response, Status};

use self::feed::Feed;
use super::{ResponseStream, responses, task::uuid};
use crate::refused::{Refused, bad_request, no_log_root};

#[derive(Debug)]
pub(crate) struct ServerStreaming {
    pub(crate) market: Arc<Market>,
    pub(crate) tasks: Tasks,
    /// `None` when no directory was named whose files may be followed.
    pub(crate) logs: Option<Arc<Logs>>,
    pub(crate) load: Arc<Load>,
    /// How long a stream that monitors something may be silent.
    pub(crate) heartbeat: Duration,
}

#[tonic::async_trait]
impl ServerStreamingService for ServerStreaming {
    type WatchQuotesStream = ResponseStream<v1::WatchQuotesResponse>;

    async fn watch_quotes(
        &self,
        request: Request<v1::WatchQuotesRequest>,
    ) -> Result<Response<Self::WatchQuotesStream>, Status> {
        let request = request.into_inner();
        let chosen = quotes::chosen(&request.symbols).map_err(Refused::from)?;
        let latest = request.delivery() == v1::Delivery::Latest;
        let interval = checked_interval(request.interval, Duration::ZERO, Duration::ZERO)?;
        let epoch = request.epoch.map(SystemTime::try_from).transpose();
        let epoch = epoch.map_err(|error| bad_request("epoch", error.to_string()))?;
        let watcher = self.market.watch(epoch, request.from_sequence, interval).await;
        let feed = Feed::new(watcher.map_err(Refused::from)?, chosen, latest, self.heartbeat);
        Ok(Response::new(responses(feed.quotes(request.count))))
    }

    type WatchSystemStream = ResponseStream<v1::WatchSystemResponse>;

    async fn watch_system(
        &self,
        request: Request<v1::WatchSystemRequest>,
    ) -> Result<Response<Self::WatchSystemStream>, Status> {
        let v1::WatchSystemRequest { interval, count } = request.into_inner();
        let pause = checked_interval(interval, Duration::from_secs(1), system::SHORTEST_INTERVAL)?;
        let (watched, heartbeat) = (self.load.clone(), self.heartbeat);
        let samples = async_stream::try_stream! {
            let watcher = watched.watch().await?;
            // The first tick is at once; a sample needs a pause to count from.
            let mut ticks = ticks(pause).skip(1).take(or_endless(count));
            loop {
                match timeout(heartbeat, ticks.next()).await {
                    Ok(Some(())) => yield load(watcher.sample().await?),
                    Ok(None) => break,
                    Err(_) => {
                        yield v1::WatchSystemResponse { heartbeat: Some(task::beat()), ..Default::default() };
                    }
                }
            }
        };
        Ok(Response::new(responses(samples)))
    }

    type WatchTaskStream = ResponseStream<v1::WatchTaskResponse>;

    async fn watch_task(
        &self,
        request: Request<v1::WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        let task = self.tasks.watch(uuid("id", &request.into_inner().id)?).await;
        Ok(Response::new(responses(task::pushes(task.map_err(Refused::from)?, self.heartbeat))))
    }

    type TailLogStream = ResponseStream<v1::TailLogResponse>;

    async fn tail_log(
        &self,
        request: Request<v1::TailLogRequest>,
    ) -> Result<Response<Self::TailLogStream>, Status> {
        let v1::TailLogRequest { file, start } = request.into_inner();
        let logs = self.logs.clone().ok_or_else(no_log_root)?;
        Ok(Response::new(responses(log::tail(logs, file, start, self.heartbeat).await?)))
    }
}

/// A tick at once and then after each pause. A reader that was too slow for
/// some ticks gets one, not all that it missed.
fn ticks(pause: Duration) -> impl Stream<Item = ()> + Send {
    let mut interval = interval(pause);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    IntervalStream::new(interval).map(drop)
}

/// On the wire a count of 0 means no end.
fn or_endless(count: u64) -> usize {
    if count == 0 { usize::MAX } else { usize::try_from(count).unwrap_or(usize::MAX) }
}

fn checked_interval(
    wire: Option<prost_types::Duration>,
    unset: Duration,
    shortest: Duration,
) -> Result<Duration, Status> {
    const LONGEST: Duration = Duration::from_secs(3600);
    let interval = wire.map_or(Some(unset), |wire| duration(&wire));
    interval.filter(|interval| (shortest..=LONGEST).contains(interval)).ok_or_else(|| {
        let [shortest, longest] = [shortest, LONGEST].map(humantime::format_duration);
        let given = wire.and_then(|wire| duration(&wire)).map(|given| format!(" {}s", given.as_secs_f64()));
        let given = given.unwrap_or_default();
        bad_request("interval", format!("interval{given} is not from {shortest} to {longest}"))
    })
}

/// Runs what blocks for some milliseconds outside of the threads that serve calls.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    let done = platform::blocking(work).await;
    done.map_err(|error| Status::internal(format!("the work was interrupted: {error}")))
}

fn load(system::Sample { time, process, machine }: system::Sample) -> v1::WatchSystemResponse {
    v1::WatchSystemResponse {
        time: Some(time.into()),
        process: Some(v1::ProcessLoad {
            cpu_percent: process.cpu_percent,
            memory_bytes: process.memory_bytes,
            disk_read_bytes: process.disk_read_bytes,
            disk_written_bytes: process.disk_written_bytes,
        }),
        machine: Some(v1::MachineLoad {
            cpu_percent: machine.cpu_percent,
            memory_used_bytes: machine.memory_used_bytes,
            memory_total_bytes: machine.memory_total_bytes,
            disk_available_bytes: machine.disk_available_bytes,
            disk_total_bytes: machine.disk_total_bytes,
            network_received_bytes: machine.network_received_bytes,
            network_sent_bytes: machine.network_sent_bytes,
        }),
        heartbeat: None,
    }
}

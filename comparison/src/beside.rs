//! How long unary calls wait at half of the highest rate, with an upload at full
//! speed on another connection, and without. Calls begin when they are due
//! whether or not those before were answered, and their time counts from then:
//! a server that stops for a moment is seen by all that would have come.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};
use shared_proto::fourmodes::v1::{MeasureUnaryRequest, measure_service_client::MeasureServiceClient};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tonic::{Status, codegen::Bytes};

use crate::{
    call::{self, Done, block_on, grpc::connect},
    cores,
    latency::{Latencies, Latency},
    measure::{self, Rates},
    progress::Progress,
    settings::Settings,
    statistics::Spread,
    target::Target,
    work::{Contestant, Work},
};

/// The calls as in this work, and the upload as in that.
const CALLS: Work = Work::Unary64;
const UPLOAD: Work = Work::Upload64kib;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Beside {
    /// Calls for each second, 64 in flight, each when another one was answered.
    pub(crate) highest_per_second: f64,
    /// Calls that were due for each second.
    pub(crate) per_second: f64,
    /// A round an entry.
    pub(crate) alone: Vec<Latency>,
    pub(crate) beside_upload: Vec<Latency>,
    /// What the upload came to, in bytes.
    pub(crate) upload_bytes_per_second: Vec<f64>,
}

impl Beside {
    /// How many times as long the p99 is beside the upload.
    pub(crate) fn ratio(&self) -> Option<Spread> {
        let p99 = |rounds: &[Latency]| rounds.iter().map(|round| round.p99).collect::<Vec<_>>();
        Spread::ratio(&p99(&self.beside_upload), &p99(&self.alone))
    }
}

pub(crate) fn measure(settings: &Settings, progress: &Progress) -> anyhow::Result<Beside> {
    let target = Target::pinned(Contestant::Ours, settings)?;
    progress.begin("beside", settings.rounds * 3);
    let mut highest = Rates::default();
    for _ in 0..settings.rounds {
        progress.step("highest rate");
        let done = Done::new()?;
        let calling = call::go_on(Contestant::Ours, target.address, CALLS, done.clone());
        block_on(measure::rate(&target, settings.each, &done, calling, &mut highest))?;
    }
    let highest_per_second = Spread::of(highest.wall).context("no rounds")?.median;
    let mut beside = Beside {
        highest_per_second,
        per_second: highest_per_second / 2.0,
        alone: Vec::new(),
        beside_upload: Vec::new(),
        upload_bytes_per_second: Vec::new(),
    };
    let apart = Duration::from_secs_f64(1.0 / beside.per_second);
    for round in 0..settings.rounds {
        for turn in [round, round + 1] {
            if turn % 2 == 0 {
                progress.step("alone");
                beside.alone.push(block_on(calls(target.address, apart, settings.each))?);
            } else {
                progress.step("beside an upload");
                let upload = Upload::start(target.address)?;
                let latency = block_on(calls(target.address, apart, settings.each));
                beside.upload_bytes_per_second.push(upload.end()?);
                beside.beside_upload.push(latency?);
            }
        }
    }
    Ok(beside)
}

/// An upload that goes on in a thread of its own. It stands back where the calls
/// want the clients' core: what is measured is how long they wait for the
/// server.
struct Upload {
    begun: Instant,
    done: Done,
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<anyhow::Result<()>>,
}

impl Upload {
    fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let (end, ended) = oneshot::channel();
        let done = Done::new()?;
        let uploading = call::go_on(Contestant::Ours, address, UPLOAD, done.clone());
        let thread = thread::spawn(move || {
            cores::stand_back();
            block_on(async {
                tokio::select! {
                    _ = ended => Ok(()),
                    failed = uploading => failed.and_then(|()| bail!("the upload has ended by itself")),
                }
            })
        });
        Ok(Self { begun: Instant::now(), done, end, thread })
    }

    /// Bytes for each second.
    fn end(self) -> anyhow::Result<f64> {
        let bytes = self.done.count() as f64 * UPLOAD.message() as f64;
        let per_second = bytes / self.begun.elapsed().as_secs_f64();
        // It has ended when nobody listens any more, and says why.
        let _ = self.end.send(());
        self.thread.join().map_err(|_| anyhow!("the upload has panicked"))??;
        Ok(per_second)
    }
}

async fn calls(address: SocketAddr, apart: Duration, each: Duration) -> anyhow::Result<Latency> {
    let client = MeasureServiceClient::new(connect(address).await?);
    let bytes = CALLS.message();
    let payload = Bytes::from(vec![0; bytes]);
    let call = || {
        let request = MeasureUnaryRequest { payload: payload.clone(), response_bytes: bytes as u32 };
        let mut client = client.clone();
        async move { client.measure_unary(request).await.map(drop) }
    };
    due(apart, each, call).await
}

/// Makes calls that are so far `apart` for as long as `each`, after a quarter of
/// it to get going.
async fn due<F>(apart: Duration, each: Duration, call: impl Fn() -> F) -> anyhow::Result<Latency>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let latencies = Latencies::new()?;
    let (sender, mut due) = mpsc::unbounded_channel();
    let begun = Instant::now();
    let (counting, end) = (begun + each / 4, begun + each / 4 + each);
    // A timer of the runtime has a millisecond at the least.
    thread::spawn(move || {
        let mut next = begun;
        while next < end {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            if sender.send(next).is_err() {
                return;
            }
            next += apart;
        }
    });
    let mut calls = JoinSet::new();
    while let Some(when) = due.recv().await {
        let (call, latencies) = (call(), latencies.clone());
        calls.spawn(async move {
            call.await?;
            if when >= counting {
                latencies.record(when.elapsed());
            }
            Ok::<_, Status>(())
        });
        while let Some(ended) = calls.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    Ok(latencies.sum_up())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    };

    use tokio::sync::Notify;

    use super::*;

    const APART: Duration = Duration::from_millis(1);
    const EACH: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn calls_do_not_wait_for_each_other() {
        let (begun, all_begun) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        // None is answered before the last one has begun.
        let call = || {
            let (begun, all_begun) = (begun.clone(), all_begun.clone());
            async move {
                if begun.fetch_add(1, Relaxed) + 1 == 250 {
                    all_begun.notify_waiters();
                } else {
                    all_begun.notified().await;
                }
                Ok(())
            }
        };
        let made = tokio::time::timeout(Duration::from_secs(60), due(APART, EACH, call)).await;
        assert_eq!(made.unwrap().unwrap().count, 200);
    }

    #[tokio::test]
    async fn the_time_of_a_call_counts_from_when_it_was_due() {
        let number = AtomicU64::new(0);
        let once = || {
            if number.fetch_add(1, Relaxed) == 60 {
                thread::sleep(EACH / 2);
            }
            async { Ok(()) }
        };
        let latency = due(APART, EACH, once).await.unwrap();
        assert_eq!(latency.count, 200);
        // A hundred that were due meanwhile waited, up to 100 ms.
        assert!(latency.p90 > 50e3, "{latency:?}");
    }
}

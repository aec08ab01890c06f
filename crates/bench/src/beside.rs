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
use tonic::{codegen::Bytes, transport::Channel};

use crate::{
    call::{self, Done, grpc::connect},
    cores,
    latency::{Latencies, Latency},
    measure::{self, Rates},
    progress::Progress,
    run::{Settings, block_on},
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
    let target = Target::pinned(Contestant::Ours)?;
    progress.begin("beside", settings.rounds * 3);
    let mut highest = Rates::default();
    for _ in 0..settings.rounds {
        progress.step("highest rate");
        let done = Done::default();
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
                beside.alone.push(block_on(due(target.address, apart, settings.each))?);
            } else {
                progress.step("beside an upload");
                let upload = Upload::start(target.address);
                let latency = block_on(due(target.address, apart, settings.each));
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
    fn start(address: SocketAddr) -> Self {
        let (end, ended) = oneshot::channel();
        let done = Done::default();
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
        Self { begun: Instant::now(), done, end, thread }
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

/// Makes calls that are so far `apart` for as long, after a quarter of it to get
/// going.
async fn due(address: SocketAddr, apart: Duration, each: Duration) -> anyhow::Result<Latency> {
    let client = MeasureServiceClient::new(connect(address).await?);
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
        calls.spawn(call(client.clone(), when, (when >= counting).then(|| latencies.clone())));
        while let Some(ended) = calls.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    Ok(latencies.sum_up())
}

async fn call(
    mut client: MeasureServiceClient<Channel>,
    due: Instant,
    latencies: Option<Latencies>,
) -> anyhow::Result<()> {
    let bytes = CALLS.message();
    let payload = Bytes::from(vec![0; bytes]);
    client.measure_unary(MeasureUnaryRequest { payload, response_bytes: bytes as u32 }).await?;
    if let Some(latencies) = latencies {
        latencies.record(due.elapsed());
    }
    Ok(())
}

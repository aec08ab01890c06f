//! What becomes of the cost as the work grows: more streams, longer messages.

use std::{sync::Arc, time::Instant};

use anyhow::bail;
use serde::{Deserialize, Serialize};
use tokio::{sync::Barrier, task::JoinSet, time::sleep};

use crate::{
    call::{
        Done, block_on,
        grpc::{STREAMS_EACH, connect, converse},
    },
    latency::{Latencies, Latency},
    measure::{self, Rates},
    progress::Progress,
    settings::Settings,
    statistics::Spread,
    target::Target,
    work::Contestant,
};

const CONTESTANTS: [Contestant; 2] = [Contestant::Ours, Contestant::BareTonic];
const STREAMS: [usize; 4] = [1, 10, 100, 1000];
/// Sixteen bytes to 4 MiB, four times as many each.
const SIZES: [u32; 10] = [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];

/// Messages that are answered for each second, on so many streams at once: on
/// each the next one follows its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Streams {
    pub(crate) contestant: Contestant,
    pub(crate) streams: usize,
    pub(crate) connections: usize,
    pub(crate) per_second: Spread,
    pub(crate) per_cpu_second: Spread,
}

/// How long an answer takes that is as long as what was sent, one at a time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) contestant: Contestant,
    pub(crate) bytes: u32,
    /// In microseconds, the median of a round's median.
    pub(crate) p50: Spread,
    pub(crate) p99: Spread,
}

pub(crate) fn streams(settings: &Settings, progress: &Progress) -> anyhow::Result<Vec<Streams>> {
    let targets = targets(settings)?;
    progress.begin("streams", settings.rounds * STREAMS.len() * targets.len());
    let mut points: Vec<_> = points(&STREAMS, &targets).map(|point| (point, Rates::default())).collect();
    for _ in 0..settings.rounds {
        for ((streams, contestant, target), rates) in &mut points {
            progress.step(format!("{streams}, {contestant}"));
            let done = Done::new()?;
            let talking = talk(target, *streams, &done);
            block_on(measure::rate(target, settings.each / 2, &done, talking, rates))?;
        }
    }
    let of = |values: Vec<f64>| Spread::of(values);
    Ok(points
        .into_iter()
        .filter_map(|((streams, contestant, _), rates)| {
            let (per_second, per_cpu_second) = (of(rates.wall)?, of(rates.cpu)?);
            let connections = streams.div_ceil(STREAMS_EACH);
            Some(Streams { contestant, streams, connections, per_second, per_cpu_second })
        })
        .collect())
}

pub(crate) fn sizes(settings: &Settings, progress: &Progress) -> anyhow::Result<Vec<Size>> {
    let targets = targets(settings)?;
    progress.begin("sizes", settings.rounds * SIZES.len() * targets.len());
    let mut points: Vec<_> = points(&SIZES, &targets).map(|point| (point, Vec::new())).collect();
    for _ in 0..settings.rounds {
        for ((bytes, contestant, target), rounds) in &mut points {
            progress.step(format!("{bytes} bytes, {contestant}"));
            rounds.push(block_on(latency(target, *bytes, settings))?);
        }
    }
    Ok(points
        .into_iter()
        .filter_map(|((bytes, contestant, _), rounds)| {
            let p50 = Spread::of(rounds.iter().map(|round| round.p50))?;
            let p99 = Spread::of(rounds.iter().map(|round| round.p99))?;
            Some(Size { contestant, bytes, p50, p99 })
        })
        .collect())
}

fn targets(settings: &Settings) -> anyhow::Result<Vec<(Contestant, Target)>> {
    let targets = CONTESTANTS.into_iter();
    targets.map(|contestant| Ok((contestant, Target::pinned(contestant, settings)?))).collect()
}

/// Side by side at each point.
fn points<'a, T: Copy>(
    values: &'a [T],
    targets: &'a [(Contestant, Target)],
) -> impl Iterator<Item = (T, Contestant, &'a Target)> {
    let at =
        move |&value: &'a T| targets.iter().map(move |(contestant, target)| (value, *contestant, target));
    values.iter().flat_map(at)
}

async fn talk(target: &Target, streams: usize, done: &Done) -> anyhow::Result<()> {
    let (mut tasks, all_open) = (JoinSet::new(), Arc::new(Barrier::new(streams)));
    let mut left = streams;
    while left > 0 {
        let channel = connect(target.address).await?;
        let here = left.min(STREAMS_EACH);
        for _ in 0..here {
            let (done, all_open) = (done.clone(), all_open.clone());
            let time = async move { all_open.wait().await };
            tasks.spawn(converse(channel.clone(), 32, time, move |_| done.more(1)));
        }
        left -= here;
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn latency(target: &Target, bytes: u32, settings: &Settings) -> anyhow::Result<Latency> {
    let latencies = Latencies::new()?;
    let each = settings.each / 2;
    let measuring = async {
        sleep(each / 4).await;
        latencies.clear();
        let begun = Instant::now();
        // A slow machine needs longer for something large.
        while begun.elapsed() < each || latencies.count() == 0 {
            sleep(each).await;
        }
    };
    let talking = async {
        converse(connect(target.address).await?, bytes, async {}, |took| latencies.record(took)).await
    };
    tokio::select! {
        () = measuring => Ok(latencies.sum_up()),
        ended = talking => {
            ended?;
            bail!("the stream has ended by itself")
        }
    }
}

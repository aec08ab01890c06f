//! What streams take that are open and say nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shared_proto::fourmodes::v1::{
    MeasureBidiStreamingResponse, measure_service_client::MeasureServiceClient,
};
use tokio::time::sleep;
use tonic::Streaming;

use crate::{
    call::{
        self, Done, block_on,
        grpc::{STREAMS_EACH, connect},
    },
    measure::{self, Rates},
    progress::Progress,
    settings::Settings,
    statistics::Spread,
    target::Target,
    work::{Contestant, Work},
};

/// Rounds beyond these say nothing new: memory does not depend on the moment.
const ROUNDS: usize = 3;

/// Resident memory of the server, in bytes. The rounds are of one process: what
/// is not given back is in the next one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) streams: usize,
    pub(crate) connections: usize,
    pub(crate) rounds: Vec<Round>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) before: u64,
    pub(crate) open: u64,
    /// When the connections were closed.
    pub(crate) closed: u64,
    /// The least in as long as ten measurements take, in which nobody calls, and
    /// how long after they were closed that was.
    pub(crate) after: u64,
    pub(crate) after_seconds: f64,
    /// Then, when as many calls as it could do were made for a measurement.
    pub(crate) after_calls: u64,
}

impl Memory {
    /// While the streams are open, in bytes.
    pub(crate) fn open(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(|round| round.open as f64))
    }

    /// The share of what the streams took that was given back when the server had
    /// that many bytes `left`. They took what a new process did not have.
    pub(crate) fn given_back(&self, left: impl Fn(&Round) -> u64) -> Option<Spread> {
        let before = self.rounds.first()?.before;
        let share = |round: &Round| {
            let taken = round.open.saturating_sub(before);
            round.open.saturating_sub(left(round)) as f64 / taken.max(1) as f64
        };
        Spread::of(self.rounds.iter().map(share))
    }
}

pub(crate) fn measure(settings: &Settings, progress: &Progress) -> anyhow::Result<Memory> {
    let streams = settings.idle_streams;
    let connections = streams.div_ceil(STREAMS_EACH);
    let target = Target::pinned(Contestant::Ours, settings)?;
    let rounds = settings.rounds.min(ROUNDS);
    progress.begin("memory", rounds);
    let mut memory = Memory { streams, connections, rounds: Vec::new() };
    for _ in 0..rounds {
        progress.step(format!("{streams} idle streams"));
        let before = target.memory()?;
        let open = block_on(async {
            // While they are held.
            let _streams = open(target.address, streams).await?;
            target.memory()
        })?;
        let closed = target.memory()?;
        let (after, after_seconds) = block_on(settled(&target, settings.each * 10))?;
        let done = Done::new()?;
        let calling = call::go_on(Contestant::Ours, target.address, Work::Unary64, done.clone());
        block_on(measure::rate(&target, settings.each, &done, calling, &mut Rates::default()))?;
        let after_calls = target.memory()?;
        memory.rounds.push(Round { before, open, closed, after, after_seconds, after_calls });
    }
    Ok(memory)
}

/// With the head of each answer there: nobody says anything after it.
async fn open(
    address: SocketAddr,
    streams: usize,
) -> anyhow::Result<Vec<Streaming<MeasureBidiStreamingResponse>>> {
    let mut open = Vec::with_capacity(streams);
    while open.len() < streams {
        let mut client = MeasureServiceClient::new(connect(address).await?);
        for _ in 0..STREAMS_EACH.min(streams - open.len()) {
            let stream = client.measure_bidi_streaming(tokio_stream::pending()).await;
            let stream = stream.with_context(|| format!("stream {} does not open", open.len() + 1))?;
            open.push(stream.into_inner());
        }
    }
    Ok(open)
}

/// The least of `patience`, and when that was.
async fn settled(target: &Target, patience: Duration) -> anyhow::Result<(u64, f64)> {
    let begun = Instant::now();
    let (mut least, mut at) = (target.memory()?, Duration::ZERO);
    while begun.elapsed() < patience {
        sleep(Duration::from_millis(50)).await;
        let now = target.memory()?;
        if now < least {
            (least, at) = (now, begun.elapsed());
        }
    }
    Ok((least, at.as_secs_f64()))
}

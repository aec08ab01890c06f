//! Round after round, each work on each server in turn.

use std::{
    env::current_exe,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{runtime, time::sleep};

use crate::{
    target::{Target, stay_on_core},
    work::Work,
};

/// Of one work, a round an entry.
pub(crate) struct Measured {
    pub(crate) work: Work,
    pub(crate) ours: Vec<Rates>,
    pub(crate) bare: Vec<Rates>,
}

/// Operations for each second.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    /// … of CPU time that the server took.
    pub(crate) cpu: f64,
    /// … that went by.
    pub(crate) wall: f64,
}

pub(crate) fn run(works: &[Work], rounds: usize, each: Duration) -> anyhow::Result<Vec<Measured>> {
    let bench = current_exe().context("where this program is")?;
    stay_on_core(0);
    let mut ours = Command::new(bench.with_file_name("server"));
    ours.args(["--listen", "127.0.0.1:0", "--data-dir", ":memory:", "all"]);
    let ours = Target::start(ours)?;
    let mut bare = Command::new(bench);
    bare.args(["serve", "bare-tonic"]);
    let bare = Target::start(bare)?;
    stay_on_core(1);
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;

    let nothing = |&work| Measured { work, ours: Vec::new(), bare: Vec::new() };
    let mut measured: Vec<_> = works.iter().map(nothing).collect();
    for round in 0..rounds {
        for Measured { work, ours: of_ours, bare: of_bare } in &mut measured {
            // Whoever comes second finds the machine as the first one left it.
            let mut turns = [(&ours, of_ours), (&bare, of_bare)];
            turns.rotate_left(round % 2);
            for (target, rates) in turns {
                rates.push(runtime.block_on(rate(target, *work, each))?);
            }
        }
    }
    Ok(measured)
}

async fn rate(target: &Target, work: Work, each: Duration) -> anyhow::Result<Rates> {
    let done = Arc::new(AtomicU64::new(0));
    let measuring = async {
        sleep(each / 4).await;
        let (before, cpu, begun) = (done.load(Relaxed), target.cpu_time()?, Instant::now());
        sleep(each).await;
        let (after, took, went_by) = (done.load(Relaxed), target.cpu_time()?, begun.elapsed());
        let operations = (after - before) as f64;
        anyhow::Ok(Rates {
            cpu: operations / (took - cpu).as_secs_f64(),
            wall: operations / went_by.as_secs_f64(),
        })
    };
    tokio::select! {
        rates = measuring => rates,
        ended = work.go_on(&target.url, done.clone()) => {
            ended.with_context(|| format!("{work:?} at {}", target.url))?;
            bail!("{work:?} at {} has ended", target.url)
        }
    }
}

//! Round after round, each work on each contestant in turn.

use std::{
    env::current_exe,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{runtime, time::sleep};

use crate::{
    call::{self, Done},
    target::{Target, stay_on_core},
    work::{Contestant, Work, name},
};

/// One work by one contestant.
pub struct Measured {
    pub(crate) work: Work,
    pub(crate) contestant: Contestant,
    /// A round an entry.
    pub(crate) rates: Vec<Rates>,
}

/// Operations for each second.
#[derive(Clone, Copy)]
pub(crate) struct Rates {
    /// … of CPU time that the server took.
    pub(crate) cpu: f64,
    /// … that went by.
    pub(crate) wall: f64,
}

/// Measures `works` by those of `only`, or by everyone when it is empty, in so
/// many rounds. The programs are those beside this one.
///
/// # Errors
///
/// When one of them cannot be started or does not do its work.
pub fn run(
    works: &[Work],
    only: &[Contestant],
    rounds: usize,
    each: Duration,
) -> anyhow::Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for &work in works {
        let contestants = work.contestants().iter().copied();
        let wanted = |&it: &Contestant| it == Contestant::Ours || only.is_empty() || only.contains(&it);
        let nothing = |contestant| Measured { work, contestant, rates: Vec::new() };
        measured.push(contestants.filter(wanted).map(nothing).collect::<Vec<_>>());
    }
    // The servers have one core, the clients the other.
    stay_on_core(0);
    let mut targets: Vec<(Contestant, Target)> = Vec::new();
    for Measured { contestant, .. } in measured.iter().flatten() {
        if targets.iter().all(|(there, _)| there != contestant) {
            targets.push((*contestant, start(*contestant)?));
        }
    }
    stay_on_core(1);
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    for round in 0..rounds {
        for side_by_side in &mut measured {
            // Nobody always has the machine as the same other one left it.
            let first = round % side_by_side.len();
            side_by_side.rotate_left(first);
            for Measured { work, contestant, rates } in &mut *side_by_side {
                let target = targets.iter().find(|(there, _)| there == contestant);
                let (_, target) = target.context("every contestant was started")?;
                rates.push(runtime.block_on(rate(target, *contestant, *work, each))?);
            }
            side_by_side.rotate_right(first);
        }
    }
    Ok(measured.into_iter().flatten().collect())
}

fn start(contestant: Contestant) -> anyhow::Result<Target> {
    let bench = current_exe().context("where this program is")?;
    let command = match contestant {
        Contestant::Ours => {
            let mut command = Command::new(bench.with_file_name("server"));
            command.args(["--listen", "127.0.0.1:0", "--data-dir", ":memory:", "all"]);
            command
        }
        Contestant::BareTonic => Command::new(bench.with_file_name("bare-tonic")),
        other => {
            let mut command = Command::new(bench);
            command.args(["serve", &name(other)]);
            command
        }
    };
    Target::start(command)
}

async fn rate(target: &Target, contestant: Contestant, work: Work, each: Duration) -> anyhow::Result<Rates> {
    let done = Done::default();
    let measuring = async {
        sleep(each / 4).await;
        let (before, cpu, begun) = (done.count(), target.cpu_time()?, Instant::now());
        sleep(each).await;
        let (after, took, went_by) = (done.count(), target.cpu_time()?, begun.elapsed());
        let operations = (after - before) as f64;
        anyhow::Ok(Rates {
            cpu: operations / (took - cpu).as_secs_f64(),
            wall: operations / went_by.as_secs_f64(),
        })
    };
    tokio::select! {
        rates = measuring => rates,
        ended = call::go_on(contestant, target.address, work, done.clone()) => {
            ended?;
            bail!("{work:?} of {contestant:?} has ended")
        }
    }
}

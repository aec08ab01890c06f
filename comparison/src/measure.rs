//! Round after round, each work on each contestant in turn.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::time::sleep;

use crate::{
    call::{self, Done, block_on},
    latency::Latency,
    progress::Progress,
    settings::Settings,
    target::{Target, beside_this},
    work::{Contestant, Work, name},
};

/// The clock of CPU time may tick no faster: less than that is not known.
const TICK: Duration = Duration::from_millis(10);

/// The first operation takes no longer on any machine, unless one side waits for the other.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many measurements a virtual machine needs until what it runs often is compiled.
const GETTING_GOING: u32 = 5;

/// One work by one contestant.
pub(crate) struct Measured {
    pub(crate) work: Work,
    pub(crate) contestant: Contestant,
    pub(crate) rates: Rates,
}

/// Operations for each second, a round an entry.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// … of CPU time that the server took.
    pub(crate) cpu: Vec<f64>,
    /// … that went by.
    pub(crate) wall: Vec<f64>,
    /// How long the answers took, where messages have answers of their own.
    pub(crate) answers: Vec<Latency>,
}

/// Measures `works` by those of `only`, or by everyone when it is empty.
pub(crate) fn rates(
    works: &[Work],
    only: &[Contestant],
    settings: &Settings,
    progress: &Progress,
) -> anyhow::Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for &work in works {
        let contestants = work.contestants().iter().copied().filter(|it| is_there(*it));
        let wanted = |&it: &Contestant| it == Contestant::Ours || only.is_empty() || only.contains(&it);
        let nothing = |contestant| Measured { work, contestant, rates: Rates::default() };
        measured.push(contestants.filter(wanted).map(nothing).collect::<Vec<_>>());
    }
    let mut targets: Vec<(Contestant, Target)> = Vec::new();
    for Measured { contestant, .. } in measured.iter().flatten() {
        if targets.iter().all(|(there, _)| there != contestant) {
            targets.push((*contestant, Target::pinned(*contestant, settings)?));
        }
    }
    let compiles = |of: &&Measured| of.contestant.compiles_as_it_runs();
    progress.begin("getting going", measured.iter().flatten().filter(compiles).count());
    for Measured { work, contestant, .. } in measured.iter().flatten().filter(compiles) {
        progress.step(format!("{}, {contestant}", name(*work)));
        turn(&targets, *contestant, *work, settings.each * GETTING_GOING, &mut Rates::default())?;
    }
    progress.begin("rates", settings.rounds * measured.iter().map(Vec::len).sum::<usize>());
    for round in 0..settings.rounds {
        for side_by_side in &mut measured {
            // Nobody always has the machine as the same other one left it.
            let first = round % side_by_side.len();
            side_by_side.rotate_left(first);
            for Measured { work, contestant, rates } in &mut *side_by_side {
                progress.step(format!("{}, {contestant}", name(*work)));
                turn(&targets, *contestant, *work, settings.each, rates)?;
            }
            side_by_side.rotate_right(first);
        }
    }
    Ok(measured.into_iter().flatten().collect())
}

/// Measures one work on one contestant.
fn turn(
    targets: &[(Contestant, Target)],
    contestant: Contestant,
    work: Work,
    each: Duration,
    rates: &mut Rates,
) -> anyhow::Result<()> {
    let target = targets.iter().find(|(there, _)| *there == contestant);
    let (_, target) = target.context("every contestant was started")?;
    let done = Done::new()?;
    let working = call::go_on(contestant, target.address, work, done.clone());
    block_on(rate(target, each, &done, working, rates))
}

/// Whether it was built.
fn is_there(contestant: Contestant) -> bool {
    !contestant.is_optional() || beside_this(&name(contestant)).is_ok_and(|program| program.is_file())
}

/// How often per second `working`, which does not end by itself, is `done`.
pub(crate) async fn rate(
    target: &Target,
    each: Duration,
    done: &Done,
    working: impl Future<Output = anyhow::Result<()>>,
    rates: &mut Rates,
) -> anyhow::Result<()> {
    let measuring = async {
        under_way(done, each).await?;
        done.answers.clear();
        let (before, cpu, begun) = (done.count(), target.cpu_time()?, Instant::now());
        sleep(each).await;
        // A slow machine needs longer for something large.
        while done.count() == before {
            sleep(each).await;
        }
        let (after, took, went_by) = (done.count(), target.cpu_time()?, begun.elapsed());
        if done.answers.count() > 0 {
            rates.answers.push(done.answers.sum_up());
        }
        let operations = (after - before) as f64;
        rates.cpu.push(operations / took.saturating_sub(cpu).max(TICK).as_secs_f64());
        rates.wall.push(operations / went_by.as_secs_f64());
        Ok(())
    };
    while_it_works(working, measuring).await
}

/// Until everything is there.
///
/// # Errors
///
/// When nothing is done for a minute.
pub(crate) async fn under_way(done: &Done, each: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    while done.count() == 0 {
        ensure!(begun.elapsed() < PATIENCE, "nothing was done in {} s", PATIENCE.as_secs());
        sleep(each / 4).await;
    }
    sleep(each / 4).await;
    Ok(())
}

/// What was measured while `working`, which does not end by itself, went on.
pub(crate) async fn while_it_works<T>(
    working: impl Future<Output = anyhow::Result<()>>,
    measuring: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        measured = measuring => measured,
        ended = working => {
            ended?;
            bail!("what was to be measured has ended by itself")
        }
    }
}

//! What is left of every promise when the power fails and the network does
//! what it likes: a server and its clients in simulated time, on a simulated
//! network and a simulated disk that loses what was not synced.
//!
//! All of it follows from a seed. `just simulate` runs [`SEEDS`]; `just simulate 7`
//! one of them, and tells what happened when.
//!
//! That it finds what it is there for is part of it. Each [`Mutant`] has to be
//! caught: a disk that says that it has synced a file and has not, one that
//! forgets new names, and members who give a text another id when they send it
//! again, which is what a server looks like that does not heed ids. Faults in
//! the server itself were tried by hand and caught: content that is renamed but
//! not synced (6 of 6 seeds), a checkpoint that is told of but not synced (5 of
//! 6), a store without a look at ids (3 of 8).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

mod chat;
mod network;
mod quotes;
mod upload;

use std::{
    cell::RefCell,
    fmt::Display,
    process::{Command, ExitCode, Output},
    rc::Rc,
    sync::Mutex,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use domain::platform::simulated::{self, Lie};
use fastrand::Rng;
use network::{SERVER, connections};
use server::config::{Config, Data, UploadLimits};
use turmoil::{Builder, Sim};

const SEEDS: u64 = 20;

/// How many seeds have to do for a mutant to be caught.
const MUTANT_SEEDS: u64 = 6;

/// How often something goes wrong in one run.
const FAULTS: usize = 12;

/// Far more than any run takes, in simulated time.
const LONGEST: Duration = Duration::from_secs(1800);

/// What is wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    None,
    UnsyncedFiles,
    UnsyncedDirectories,
    NewIds,
}

impl Mutant {
    const ALL: [Self; 4] = [Self::None, Self::UnsyncedFiles, Self::UnsyncedDirectories, Self::NewIds];
}

fn main() -> ExitCode {
    if !cfg!(tokio_unstable) {
        eprintln!("without `--cfg tokio_unstable` no seed repeats a run; `just simulate` sets it");
        return ExitCode::FAILURE;
    }
    let mut arguments = std::env::args().skip(1);
    let ended = match (arguments.next(), arguments.next()) {
        (None, _) => all(),
        (Some(seed), mutant) => one(&seed, mutant.as_deref().unwrap_or("None")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Every seed, and every mutant.
fn all() -> Result<()> {
    let runs = |mutant, seeds| (0..seeds).map(move |seed| (seed, mutant));
    let of_mutants = Mutant::ALL.into_iter().skip(1).flat_map(|mutant| runs(mutant, MUTANT_SEEDS));
    let planned: Vec<_> = runs(Mutant::None, SEEDS).chain([(0, Mutant::None)]).chain(of_mutants).collect();
    let done = in_processes(&planned)?;
    let (mine, mutants) = done.split_at(SEEDS as usize + 1);
    for ((seed, _), output) in mine {
        ensure!(output.status.success(), "{}; `just simulate {seed}` says more", text(&output.stderr));
    }
    println!("{SEEDS} seeds: nothing acknowledged was lost");
    ensure!(mine[0].1.stdout == mine[SEEDS as usize].1.stdout, "seed 0 did not repeat");
    println!("seed 0 a second time: the same to the millisecond");
    for of_one in mutants.chunks(MUTANT_SEEDS as usize) {
        let ((_, mutant), _) = of_one[0];
        let caught: Vec<_> = of_one.iter().filter(|(_, output)| !output.status.success()).collect();
        let first = caught.first().with_context(|| format!("{mutant:?} was not caught"))?;
        println!(
            "{mutant:?}: caught by {} of {MUTANT_SEEDS} seeds, such as: {}",
            caught.len(),
            text(&first.1.stderr)
        );
    }
    Ok(())
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim_end().to_owned()
}

type Planned = (u64, Mutant);

/// Each in a process of its own: a run depends on the numbers of its tasks, and
/// these go on counting in one process.
fn in_processes(planned: &[Planned]) -> Result<Vec<(Planned, Output)>> {
    let program = std::env::current_exe()?;
    let (next, done) = (Mutex::new(0..planned.len()), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        loop {
            let Some(index) = next.lock().map_err(|_| anyhow!("a thread panicked"))?.next() else {
                return Ok(());
            };
            let (seed, mutant) = planned[index];
            let output = Command::new(&program).args([seed.to_string(), format!("{mutant:?}")]).output()?;
            done.lock().map_err(|_| anyhow!("a thread panicked"))?.push((index, output));
        }
    };
    thread::scope(|scope| -> Result<()> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    let mut done = done.into_inner()?;
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(index, output)| (planned[index], output)).collect())
}

/// One run, told.
fn one(seed: &str, mutant: &str) -> Result<()> {
    let seed = seed.parse().with_context(|| format!("{seed:?} is no seed: a number is"))?;
    let mutant = Mutant::ALL.into_iter().find(|known| format!("{known:?}") == mutant);
    let story = Story::default();
    let ended = run(seed, mutant.context("there is no such mutant")?, &story);
    story.borrow().iter().for_each(|line| println!("{line}"));
    ended.with_context(|| format!("seed {seed}"))
}

/// What happened when.
type Story = Rc<RefCell<Vec<String>>>;

/// By a client.
fn tell(story: &Story, what: impl Display) {
    note(story, turmoil::sim_elapsed().unwrap_or_default(), what);
}

fn note(story: &Story, time: Duration, what: impl Display) {
    story.borrow_mut().push(format!("{:>9.3} {what}", time.as_secs_f64()));
}

/// Whether all promises were kept.
fn run(seed: u64, mutant: Mutant, story: &Story) -> Result<()> {
    fastrand::seed(seed);
    simulated::lie_about(match mutant {
        Mutant::UnsyncedFiles => Some(Lie::Files),
        Mutant::UnsyncedDirectories => Some(Lie::Directories),
        Mutant::None | Mutant::NewIds => None,
    });
    let mut builder = Builder::new();
    builder.rng_seed(seed).simulation_duration(LONGEST).max_message_latency(Duration::from_millis(20));
    builder.epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    // Of what was not synced a part may be there all the same.
    builder.fs().block_size(4096);
    let mut sim = builder.build();
    sim.host(SERVER, || async {
        let uploads = UploadLimits { checkpoint: 16 << 10, ..UploadLimits::default() };
        let config = Config { data: Data::Directory("/state".into()), uploads, ..Config::default() };
        let served = server::Ready::open(config)
            .await?
            .serve_connections(connections().await?, std::future::pending())
            .await;
        Ok(served?)
    });
    let ended = simulate(&mut sim, &mut Rng::with_seed(seed), mutant, story);
    // A file is closed within the simulation, or not at all.
    simulated::fail_power_after(0);
    sim.crash(SERVER);
    ended
}

fn simulate(sim: &mut Sim<'_>, random: &mut Rng, mutant: Mutant, story: &Story) -> Result<()> {
    let mut clients = Vec::new();
    let chat = chat::Chat::start(sim, &mut clients, story, mutant == Mutant::NewIds);
    let quotes = quotes::Quotes::start(sim, &mut clients, story);
    let upload = upload::Upload::start(sim, &mut clients, story);
    for _ in 0..FAULTS {
        if steps(sim, random.u64(100..1_500))? {
            break;
        }
        fault(sim, random, &clients, story)?;
    }
    while !sim.step().map_err(failed)? {}
    // What was acknowledged last has to be on the disk as well.
    crash(sim, 0, story)?;
    restart(sim, story);
    sim.client("judge", async move {
        chat.judge().await?;
        quotes.judge().await?;
        Ok(upload.judge().await?)
    });
    sim.run().map_err(failed)
}

fn failed(error: Box<dyn std::error::Error>) -> anyhow::Error {
    anyhow!("{error}")
}

/// Goes on for some milliseconds: true when every client has done its work.
fn steps(sim: &mut Sim<'_>, milliseconds: u64) -> Result<bool> {
    for _ in 0..milliseconds {
        if sim.step().map_err(failed)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn fault(sim: &mut Sim<'_>, random: &mut Rng, clients: &[&str], story: &Story) -> Result<()> {
    let pause = random.u64(1..20_000);
    let client = random.choice(clients).copied().unwrap_or(SERVER);
    let now = sim.elapsed();
    match random.u8(..11) {
        0..4 => {
            crash(sim, random.u64(..40), story)?;
            steps(sim, pause / 4)?;
            restart(sim, story);
        }
        4 => {
            note(story, now, format!("{client} is cut off for {pause} ms"));
            sim.partition(client, SERVER);
            steps(sim, pause)?;
            sim.repair(client, SERVER);
        }
        5 => {
            note(story, now, format!("{client} is not heard for {pause} ms"));
            sim.partition_oneway(client, SERVER);
            steps(sim, pause)?;
            sim.repair_oneway(client, SERVER);
        }
        6 => {
            note(story, now, format!("{client} hears nothing for {pause} ms"));
            sim.partition_oneway(SERVER, client);
            steps(sim, pause)?;
            sim.repair_oneway(SERVER, client);
        }
        7..10 => {
            let writes = random.u64(..40);
            note(story, now, format!("after {writes} writes the disk fails once"));
            simulated::fail_write_after(writes);
        }
        _ => {
            note(story, now, format!("what goes to and from {client} is held up for {pause} ms"));
            sim.hold(client, SERVER);
            steps(sim, pause)?;
            sim.release(client, SERVER);
        }
    }
    Ok(())
}

/// The power fails, in the midst of writing when there is something to write.
fn crash(sim: &mut Sim<'_>, writes: u64, story: &Story) -> Result<()> {
    simulated::fail_power_after(writes);
    for _ in 0..500 {
        if simulated::power_has_failed() || sim.step().map_err(failed)? {
            break;
        }
    }
    simulated::fail_power_after(0);
    sim.crash(SERVER);
    note(story, sim.elapsed(), "the power fails");
    Ok(())
}

fn restart(sim: &mut Sim<'_>, story: &Story) {
    simulated::restore_power();
    sim.bounce(SERVER);
    note(story, sim.elapsed(), "the server starts");
}

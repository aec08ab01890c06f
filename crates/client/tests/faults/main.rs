//! What is left of every promise when a side dies: real processes, killed with
//! SIGKILL at random moments while clients work.
//!
//! `FAULTS_KILLS` says how often, `FAULTS_SEED` when; `just faults` does it at
//! length. Each failure names the seed, although with real processes the same
//! seed gives only the same pauses.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]
#![cfg(unix)]

mod chat;
mod errands;
mod quotes;
mod sync;
mod world;

use std::time::{Duration, Instant};

use world::{Server, number};

/// Something that works for as long as the server is killed and started.
trait Worker {
    fn name(&self) -> String;
    /// Counts what was acknowledged so far.
    fn progress(&self) -> u64;
    /// Ends the work and checks all that was acknowledged.
    fn check(self: Box<Self>, server: &Server);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let seed = number("FAULTS_SEED", u64::from(std::process::id()));
    let kills = number("FAULTS_KILLS", 8);
    println!("seed {seed}, {kills} kills");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut server = Server::start();
    let workers: Vec<Box<dyn Worker>> =
        [chat::workers(&server), quotes::workers(&server), errands::workers(&server), sync::workers(&server)]
            .into_iter()
            .flatten()
            .collect();
    let mut slowest = Duration::ZERO;
    everyone_works(&workers, &vec![0; workers.len()]);
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_millis(random.u64(..400)));
        server.kill();
        let before: Vec<_> = workers.iter().map(|worker| worker.progress()).collect();
        server.restart();
        let back = Instant::now();
        everyone_works(&workers, &before);
        println!("kill {kill}: everyone works again after {:?}", back.elapsed());
        slowest = slowest.max(back.elapsed());
    }
    for worker in workers {
        println!("{}: {} acknowledged", worker.name(), worker.progress());
        worker.check(&server);
    }
    println!("{kills} kills, back at work after {slowest:?} at most");
}

/// Waits until everyone has got further than before.
fn everyone_works(workers: &[Box<dyn Worker>], before: &[u64]) {
    for (worker, before) in workers.iter().zip(before) {
        world::eventually(|| worker.progress() > *before, &worker.name());
    }
}

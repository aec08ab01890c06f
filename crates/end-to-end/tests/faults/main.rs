//! What is left of every promise when a side dies: real processes, killed with
//! SIGKILL, or asked to end with SIGTERM, at random moments while clients work.
//!
//! `FAULTS_KILLS` says how often, `FAULTS_SEED` when; `just faults` does it at
//! length. Each failure names the seed, although with real processes the same
//! seed gives only the same pauses.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]
#![cfg(unix)]

mod calls;
mod chat;
mod cluster;
mod errands;
mod history;
mod learnt;
mod one_order;
mod quotes;
mod recorded;
mod sync;
mod throughput;
mod world;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use world::{Address, Server, number};

/// Something that works for as long as the server is killed and started.
trait Worker: Send {
    fn name(&self) -> String;
    /// Counts what was acknowledged so far.
    fn progress(&self) -> u64;
    /// Counts what was asked for so far, where one asks for more before the answer is there.
    fn asked(&self) -> u64 {
        self.progress()
    }
    /// Ends the work and checks all that was acknowledged.
    fn check(self: Box<Self>, address: &Address);
}

/// Everything that a server keeps.
fn workers(address: &Address) -> Vec<Box<dyn Worker>> {
    [chat::workers(address), quotes::workers(address), errands::workers(address), sync::workers(address)]
        .into_iter()
        .flatten()
        .collect()
}

/// Each of the tests has the machine's attention to itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn dice() -> fastrand::Rng {
    let seed = number("FAULTS_SEED", u64::from(std::process::id()));
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let _alone = alone();
    let mut random = dice();
    let mut server = Server::start();
    let workers = workers(&server.address);
    let kills = number("FAULTS_KILLS", 8);
    let mut slowest = Duration::ZERO;
    everyone_works(&workers, &vec![0; workers.len()]);
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_millis(random.u64(..400)));
        server.kill();
        let before = progress(&workers);
        server.restart();
        let back = Instant::now();
        everyone_works(&workers, &before);
        println!("kill {kill}: everyone works again after {:?}", back.elapsed());
        slowest = slowest.max(back.elapsed());
    }
    check(workers, &server.address);
    println!("{kills} kills, back at work after {slowest:?} at most");
}

/// One server after the other is asked to end, and comes back, as when a new
/// version is rolled out. What any of them answers goes on all the time; what
/// one of them keeps goes on when it is back.
#[test]
fn a_rolling_restart_loses_nothing() {
    let _alone = alone();
    let mut random = dice();
    let mut servers = [Server::start(), Server::start()];
    let calls = calls::workers(&Address::any_of(&servers));
    let streams = servers.each_ref().map(|server| workers(&server.address));
    everyone_works(&calls, &vec![0; calls.len()]);
    streams.iter().for_each(|workers| everyone_works(workers, &vec![0; workers.len()]));
    let stops = number("FAULTS_KILLS", 4);
    let mut slowest = Duration::ZERO;
    for stop in 1..=stops {
        std::thread::sleep(Duration::from_millis(random.u64(..400)));
        let (server, streams) = ((stop % 2) as usize, &streams[(stop % 2) as usize]);
        let took = servers[server].stop();
        println!("stop {stop}: server {server} was gone after {took:?}");
        slowest = slowest.max(took);
        let before = progress(streams);
        // Nobody waits for the one that is away.
        everyone_works(&calls, &progress(&calls));
        servers[server].restart();
        everyone_works(streams, &before);
    }
    check(calls, &Address::any_of(&servers));
    for (workers, server) in streams.into_iter().zip(&servers) {
        check(workers, &server.address);
    }
    println!("{stops} stops, gone after {slowest:?} at most");
}

/// A server that hangs takes connections and answers nothing.
#[test]
fn a_server_that_hangs_among_three_costs_no_call() {
    let _alone = alone();
    let servers = [Server::start(), Server::start(), Server::start()];
    let any = Address::any_of(&servers);
    servers[1].hang();
    let mut met = 0;
    // A run begins with any of the three: it meets the one that hangs sooner or later.
    while met < 3 {
        for deadline in ["1s", "5s"] {
            let lines = any.lines(&format!("unary multiply 6 7 --deadline {deadline}"), None);
            assert_eq!(lines.last().unwrap()["value"]["product"], 42, "{lines:?}");
            met += lines.iter().filter(|line| line["type"] == "ejected").count();
        }
    }
}

fn progress(workers: &[Box<dyn Worker>]) -> Vec<u64> {
    workers.iter().map(|worker| worker.progress()).collect()
}

/// Waits until everyone has got further than before.
fn everyone_works(workers: &[Box<dyn Worker>], before: &[u64]) {
    for (worker, before) in workers.iter().zip(before) {
        test_support::eventually(|| worker.progress() > *before, &worker.name());
    }
}

fn check(workers: Vec<Box<dyn Worker>>, address: &Address) {
    // At once: who waits for its turn goes on working meanwhile.
    std::thread::scope(|scope| {
        for worker in workers {
            scope.spawn(move || {
                println!("{}: {} acknowledged", worker.name(), worker.progress());
                worker.check(address);
            });
        }
    });
}

//! What clients of all servers of one database did and saw has one order, whatever dies.
//!
//! `FAULTS_DEATHS` and `FAULTS_CUTS` say how often; `just cluster-order` does it at length.

use std::time::{Duration, Instant};

use test_support::{Postgres, Proxy, Trouble, eventually};

use crate::{
    Worker, alone, chat, check,
    cluster::{LONG_AWAY, block_on, database},
    dice,
    recorded::Clients,
    world::{Address, Server, number},
};

/// Faults after which everything begins anew and is checked, so that no record gets too long.
const ROUND: u64 = 6;
/// Short cuts before each long one.
const SHORT: u32 = 8;

/// Clients in this process whose history is recorded, and those that people use.
struct World {
    recorded: Clients,
    members: Vec<Box<dyn Worker>>,
    any: Address,
}

/// Until all clients had an answer to what they asked for after a fault.
#[derive(Default)]
struct Times(Vec<Duration>);

impl World {
    fn start(servers: &[Server]) -> Self {
        let any = Address::any_of(servers);
        let world = Self {
            recorded: Clients::start(servers),
            members: chat::members(&any, Duration::from_millis(50)),
            any,
        };
        world.works_after(&world.asked(), Instant::now());
        world
    }

    fn asked(&self) -> Vec<u64> {
        self.members.iter().map(|member| member.asked()).collect()
    }

    /// Waits until everyone works on what was asked for later.
    fn works_after(&self, asked: &[u64], moment: Instant) {
        self.recorded.work_after(moment);
        crate::everyone_works(&self.members, asked);
    }

    fn check(self) {
        self.recorded.stop().check();
        check(self.members, &self.any);
    }
}

impl Times {
    fn print(mut self, what: &str) {
        self.0.sort();
        if self.0.is_empty() {
            return;
        }
        let at = |percent: usize| self.0[(self.0.len() * percent).div_ceil(100) - 1];
        println!("{}, {what}: median {:?}, 95 % {:?}, max {:?}", self.0.len(), at(50), at(95), at(100));
    }
}

/// Calls `round` with how many faults it is to have, until they are as many as wanted.
fn rounds(faults: u64, mut round: impl FnMut(u64)) {
    let mut left = faults;
    while left > 0 {
        round(left.min(ROUND));
        left -= left.min(ROUND);
    }
}

#[test]
#[ignore = "needs PostgreSQL: just cluster-test"]
fn there_is_one_order_when_servers_of_one_database_die() {
    let _alone = alone();
    let mut random = dice();
    let (mut killed, mut hung) = (Times::default(), Times::default());
    rounds(number("FAULTS_DEATHS", 3), |deaths| {
        let (postgres, url) = database();
        let mut servers = [0, 1, 2]
            .map(|n| Server::start_with(Some(&format!("{url}?application_name={}", application(n)))));
        let world = World::start(&servers);
        for death in 1..=deaths {
            std::thread::sleep(Duration::from_millis(random.u64(..400)));
            let n = random.usize(..3);
            let server = &mut servers[n];
            // First of all, when each of them still has a writer.
            let hangs = death % 3 == 1;
            if hangs {
                eventually(
                    || becomes_a_zombie(server, &postgres, &application(n)),
                    "its writer is never idle",
                );
                std::thread::sleep(LONG_AWAY);
                // Posts wait for it, and its members have left.
                server.go_on();
            }
            let (asked, since) = (world.asked(), Instant::now());
            match hangs {
                true => assert_eq!(server.wait(), Some(1), "a server that was declared dead goes on"),
                false => server.kill(),
            }
            world.works_after(&asked, since);
            println!("{} {death}: back after {:?}", if hangs { "stop" } else { "kill" }, since.elapsed());
            if hangs { &mut hung } else { &mut killed }.0.push(since.elapsed());
            server.restart();
            world.works_after(&world.asked(), Instant::now());
        }
        world.check();
    });
    killed.print("from a kill until all clients work again");
    hung.print("from the end of a hang until all clients work again");
}

/// The name of a server's connections.
fn application(server: usize) -> String {
    format!("server{server}")
}

/// Stops a server whose writer does nothing, and leaves it just this connection: when it goes on,
/// it commits before anything else tells it that it was declared dead.
fn becomes_a_zombie(server: &Server, postgres: &Postgres, application: &str) -> bool {
    server.hang();
    let idle = block_on(postgres.leaves_only_idle_writers(application));
    if !idle {
        server.go_on();
    }
    idle
}

/// A server whose connections are cut for a moment makes each commit once. One that has no
/// database for longer than its lease is declared dead.
#[test]
#[ignore = "needs PostgreSQL: just cluster-test"]
fn there_is_one_order_when_servers_are_cut_off_from_their_database() {
    let _alone = alone();
    let mut random = dice();
    let (mut shortly, mut long) = (Times::default(), Times::default());
    rounds(number("FAULTS_CUTS", 1), |cuts| {
        let (postgres, url) = database();
        let (name, address) = (url.rsplit('/').next().unwrap(), postgres.tcp());
        let paths = [(); 3].map(|()| Proxy::start(address));
        let mut servers = paths
            .each_ref()
            .map(|path| Server::start_with(Some(&format!("postgres://test@{}/{name}", path.address))));
        let world = World::start(&servers);
        for cut in 1..=cuts {
            for _ in 0..SHORT {
                std::thread::sleep(Duration::from_millis(random.u64(..100)));
                let (asked, since) = (world.asked(), Instant::now());
                random.choice(&paths).unwrap().cut();
                world.works_after(&asked, since);
                shortly.0.push(since.elapsed());
            }
            let n = random.usize(..3);
            let (server, path) = (&mut servers[n], &paths[n]);
            // What is under way is lost, or comes late.
            let is_lost = random.bool();
            match is_lost {
                true => {
                    path.set_target(None);
                    path.cut();
                }
                false => path.set(Trouble::StallAfter(0)),
            }
            std::thread::sleep(LONG_AWAY);
            let (asked, since) = (world.asked(), Instant::now());
            path.set(Trouble::None);
            path.set_target(address);
            assert_eq!(server.wait(), Some(1), "a server that was declared dead goes on");
            world.works_after(&asked, since);
            println!("{} {cut}: back after {:?}", if is_lost { "cut" } else { "stall" }, since.elapsed());
            long.0.push(since.elapsed());
            server.restart();
            world.works_after(&world.asked(), Instant::now());
        }
        world.check();
    });
    shortly.print("from a cut of a moment until all clients work again");
    long.print("from the end of a long one until all clients work again");
}

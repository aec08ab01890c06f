//! Servers that share a database, of which any may die.

use std::time::{Duration, Instant};

use test_support::Postgres;

use crate::{
    alone, check, dice, everyone_works, progress, shared_workers,
    world::{Address, Server, number},
};

/// Far longer than a lease.
const LONG_AWAY: Duration = Duration::from_secs(5);

/// With an address of the database.
fn database() -> (Postgres, String) {
    let postgres = Postgres::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = runtime.block_on(async {
        postgres.listens().await;
        postgres.database().await
    });
    (postgres, url)
}

/// Killed, or stopped for longer than its lease: then it finds itself declared dead, and
/// ends.
#[test]
#[ignore = "needs PostgreSQL: just cluster-test"]
fn nothing_acknowledged_is_lost_when_servers_of_one_database_die() {
    let _alone = alone();
    let mut random = dice();
    let (_postgres, url) = database();
    let mut servers = [(); 3].map(|()| Server::start_with(Some(&url)));
    let any = Address::any_of(&servers);
    let workers = shared_workers(&any);
    everyone_works(&workers, &vec![0; workers.len()]);
    let kills = number("FAULTS_KILLS", 6);
    let mut slowest = Duration::ZERO;
    for kill in 1..=kills {
        std::thread::sleep(Duration::from_millis(random.u64(..400)));
        let server = &mut servers[random.usize(..3)];
        let hangs = kill % 3 == 0;
        if hangs {
            server.hang();
            std::thread::sleep(LONG_AWAY);
            server.go_on();
            assert_eq!(server.wait(), Some(1), "a server that was declared dead goes on");
        } else {
            server.kill();
        }
        let before = progress(&workers);
        server.restart();
        let back = Instant::now();
        everyone_works(&workers, &before);
        println!(
            "{} {kill}: everyone works again after {:?}",
            if hangs { "stop" } else { "kill" },
            back.elapsed()
        );
        slowest = slowest.max(back.elapsed());
    }
    check(workers, &any);
    println!("{kills} faults, back at work after {slowest:?} at most");
}

//! Servers that share a database, of which any may die.

use std::time::{Duration, Instant};

use test_support::{Certs, Postgres, Program, Proxy};

use crate::{
    alone, calls, check, dice, everyone_works, progress, workers,
    world::{Address, Server, number},
};

/// Far longer than a lease.
pub(crate) const LONG_AWAY: Duration = Duration::from_secs(5);

/// Within it, and the time that their work takes, clients work again after a promotion.
const PROMOTED: Duration = Duration::from_secs(5);

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What is written survives the end of a process without it.
const FAST: &str = "fsync=off";

/// With an address of the database.
pub(crate) fn database() -> (Postgres, String) {
    let postgres = Postgres::start(&[FAST]);
    let url = block_on(async {
        postgres.listens().await;
        postgres.database().await
    });
    (postgres, url)
}

/// A primary and two standbys. A commit is on one of them, too.
struct Replicated {
    primary: Postgres,
    standbys: [Postgres; 2],
}

const REPLICATED: [&str; 3] =
    ["synchronous_standby_names=ANY 1 (*)", "wal_retrieve_retry_interval=500ms", FAST];

impl Replicated {
    fn start() -> Self {
        let primary = Postgres::start(&REPLICATED);
        block_on(primary.listens());
        let standbys = [(); 2].map(|()| primary.standby(&REPLICATED));
        standbys.iter().for_each(|standby| block_on(standby.listens()));
        Self { primary, standbys }
    }

    fn url(&self) -> String {
        block_on(self.primary.run("postgres", "CREATE DATABASE shared")).unwrap();
        let [one, other] = &self.standbys;
        Postgres::url_of(&[&self.primary, one, other], "shared")
    }

    /// The primary dies, and the standby that has more of its log takes its place.
    fn fail_over(&self) {
        self.primary.crash();
        let [one, other] = &self.standbys;
        block_on(async {
            let (furthest, other) =
                if one.received().await >= other.received().await { (one, other) } else { (other, one) };
            furthest.promote().await;
            other.follow(furthest).await;
        });
    }
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
    let workers = workers(&any);
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

#[test]
#[ignore = "needs PostgreSQL: just cluster-test"]
fn nothing_acknowledged_is_lost_when_a_standby_of_the_database_is_promoted() {
    let _alone = alone();
    let mut random = dice();
    let mut slowest = Duration::ZERO;
    let promotions = number("FAULTS_PROMOTIONS", 1);
    for promotion in 1..=promotions {
        let database = Replicated::start();
        let url = database.url();
        let servers = [(); 3].map(|()| Server::start_with(Some(&url)));
        let any = Address::any_of(&servers);
        let workers = workers(&any);
        everyone_works(&workers, &vec![0; workers.len()]);
        // Some work takes long, without a fault as well.
        let usual = Instant::now();
        everyone_works(&workers, &progress(&workers));
        let usual = usual.elapsed();
        std::thread::sleep(Duration::from_millis(random.u64(..400)));
        database.fail_over();
        let promoted = Instant::now();
        everyone_works(&workers, &progress(&workers));
        let took = promoted.elapsed();
        println!(
            "promotion {promotion}: everyone works again after {took:?}, without a fault after {usual:?}"
        );
        assert!(took < PROMOTED + usual, "promotion {promotion}");
        slowest = slowest.max(took);
        check(workers, &any);
    }
    println!("{promotions} promotions, back at work after {slowest:?} at most");
}

/// As when a new version is rolled out: while a server is away, the others have its work.
#[test]
#[ignore = "needs PostgreSQL: just cluster-test"]
fn a_rolling_restart_of_servers_of_one_database_fails_no_call() {
    let _alone = alone();
    let mut random = dice();
    let (_postgres, url) = database();
    let mut servers = [(); 3].map(|()| Server::start_with(Some(&url)));
    let any = Address::any_of(&servers).where_none_fails();
    let mut workers = workers(&any);
    workers.extend(calls::workers(&any));
    everyone_works(&workers, &vec![0; workers.len()]);
    let mut slowest = Duration::ZERO;
    for stop in 1..=number("FAULTS_STOPS", 3) {
        std::thread::sleep(Duration::from_millis(random.u64(..400)));
        let server = (stop % 3) as usize;
        let took = servers[server].stop();
        println!("stop {stop}: server {server} was gone after {took:?}");
        slowest = slowest.max(took);
        everyone_works(&workers, &progress(&workers));
        servers[server].restart();
        everyone_works(&workers, &progress(&workers));
    }
    check(workers, &any);
    println!("gone after {slowest:?} at most");
}

fn server_with(store: &str) -> Program {
    let server = Program::new(env!("CARGO_BIN_EXE_end-to-end-server")).args("all --listen 127.0.0.1:0");
    server.env("FOURMODES_STORE", store)
}

/// A server trusts its database by a certificate, or does not start.
#[test]
#[ignore = "needs PostgreSQL: just cluster-test"]
fn a_server_reaches_its_database_by_tls() {
    let (trusted, unknown) = (Certs::new(), Certs::new());
    let (postgres, address) = Postgres::start_with_tls(&trusted);
    block_on(postgres.listens());
    let (by_tcp, by_socket) = (format!("postgres://test@{address}/postgres"), postgres.url("postgres"));
    let start = |certs: &Certs, url: &str, options: &str| {
        server_with(&format!("{url}{options}")).env("SSL_CERT_FILE", certs.path("ca.pem")).try_serve()
    };
    let server = start(&trusted, &by_tcp, "").unwrap();
    let sees = "DO $$ BEGIN
        IF (SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE application_name = 'fourmodes-server') IS NOT true THEN RAISE 'not by TLS'; END IF;
    END $$";
    block_on(postgres.run("postgres", sees)).unwrap();
    drop(server);
    for options in ["", "?sslmode=require"] {
        let why = start(&unknown, &by_tcp, options).err().expect("it trusts anybody");
        assert!(why.contains("UnknownIssuer") && why.contains("SSL_CERT_FILE"), "{why}");
    }
    start(&unknown, &by_tcp, "?sslmode=disable").unwrap();
    // PostgreSQL has no TLS there.
    let why = start(&trusted, &by_socket, "?sslmode=require").err().expect("it does without TLS");
    assert!(why.contains("does not support TLS"), "{why}");
}

#[test]
#[ignore = "needs PostgreSQL: just cluster-test"]
fn a_server_that_starts_waits_for_a_busy_database() {
    let (postgres, url) = database();
    let (name, address) = (url.rsplit('/').next().unwrap(), postgres.tcp());
    let path = Proxy::start(address);
    path.set_target(None);
    let mut server = server_with(&format!("postgres://test@{}/{name}", path.address)).spawn();
    server.warnings().until("PostgreSQL does not answer yet");
    path.set_target(address);
    server.lines().until("listening on");
}

//! What the database promises on top: servers that share it, each of which may lose
//! it, or be declared dead.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use domain::store::{Expect, Memory, READ_BYTES, Store, StoreError, Write, Written};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use test_support::{Postgres as Installed, within};
use tokio_util::task::AbortOnDropHandle;

use super::{super::postgres::Postgres, any_commits, append, append_once, assert_same, put, texts};

/// In a database of its own.
pub(super) async fn open() -> Postgres {
    Postgres::open(&Installed::shared().await.database().await, Arc::default()).await.unwrap()
}

#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn it_does_what_memory_does() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..16 {
        let (model, database) = (Memory::default(), open().await);
        for writes in any_commits().new_tree(&mut runner).unwrap().current() {
            assert_eq!(database.commit(writes.clone()).await, model.commit(writes).await);
            assert_same(&database, &model).await;
        }
        database.close().await;
    }
}

/// All of them are one group.
#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn a_group_does_what_memory_does() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..16 {
        let (model, database) = (Memory::default(), open().await);
        let commits = any_commits().new_tree(&mut runner).unwrap().current();
        let answers: Vec<_> = commits.iter().map(|writes| database.commit(writes.clone())).collect();
        for (writes, answer) in commits.into_iter().zip(answers) {
            assert_eq!(answer.await, model.commit(writes).await);
        }
        assert_same(&database, &model).await;
        database.close().await;
    }
}

/// A name may be longer than what PostgreSQL has in a notification, and may have any
/// character.
#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn a_server_hears_what_another_one_has_appended() {
    let url = Installed::shared().await.database().await;
    let [one, other] = [
        Postgres::open(&url, Arc::default()).await.unwrap(),
        Postgres::open(&url, Arc::default()).await.unwrap(),
    ];
    for name in ["a", "with\0nothing 🦀", &"long".repeat(500)] {
        let mut more = other.watch(name);
        more.borrow_and_update();
        one.commit(vec![append(name, "x")]).await.unwrap();
        within(more.changed()).await.unwrap();
        assert_eq!(*more.borrow(), 1);
        assert_eq!(texts(&other, name, 1).await, [(1, "x".into())]);
    }
}

/// Also in a table that was empty when the lookup was planned.
#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn an_id_is_looked_up_without_reading_its_stream() {
    const RECORDS: u64 = 300;
    let installed = Installed::shared().await;
    let url = installed.database().await;
    let store = Postgres::open(&url, Arc::default()).await.unwrap();
    for n in 1..=RECORDS {
        let id = Some(u128::from(n).to_be_bytes());
        assert_eq!(store.commit(vec![append_once("a", "x", id)]).await.unwrap(), [Written::Appended(n)]);
    }
    // With the connection its counts come to the statistics.
    store.close().await;
    let name = url.rsplit('/').next().unwrap();
    let is = |what: &str, table: &str, condition: &str| {
        format!(
            "DO $$ DECLARE found bigint; BEGIN \
             SELECT sum({what}) INTO found FROM {table} WHERE schemaname = 'fourmodes' AND relname = 'record'; \
             IF NOT found {condition} THEN RAISE '{what} is %', found; END IF; END $$"
        )
    };
    let counted = is("n_tup_ins", "pg_stat_user_tables", &format!("= {RECORDS}"));
    within(async { while installed.run(name, &counted).await.is_err() {} }).await;
    let few = is("idx_tup_read", "pg_stat_user_indexes", &format!("< {}", 10 * RECORDS));
    installed.run(name, &few).await.unwrap();
}

/// As that of a member whose peer does not read.
#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn a_read_that_nobody_goes_on_with_holds_up_no_other() {
    let store = open().await;
    let long = "x".repeat(READ_BYTES / 4);
    for _ in 0..4 {
        store.commit(vec![append("a", &long)]).await.unwrap();
    }
    let mut reads: Vec<_> = (0..4).map(|_| store.read("a", 1, 4)).collect();
    for read in &mut reads {
        tokio::select! {
            biased;
            _ = read => {}
            () = std::future::ready(()) => {}
        }
    }
    assert_eq!(within(store.get("none")).await, Ok(None));
}

/// Both count in one key, append to one stream, and make and forget another one.
#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn servers_that_write_the_same_are_in_one_order() {
    const EACH: u64 = 150;
    let url = Installed::shared().await.database().await;
    let [one, other] = [
        Postgres::open(&url, Arc::default()).await.unwrap(),
        Postgres::open(&url, Arc::default()).await.unwrap(),
    ];
    let work = async |store: &Postgres, who: &str| {
        for n in 1..=EACH {
            loop {
                let before = store.get("count").await.unwrap();
                let count =
                    before.as_ref().map_or(0, |count| String::from_utf8_lossy(count).parse().unwrap());
                let expect = before.map_or(Expect::Nothing, Expect::Value);
                let counted = vec![
                    put("count", &(count + 1_u64).to_string(), expect),
                    append("room/a", &format!("{who} {n}")),
                    append("room/b", "x"),
                ];
                match store.commit(counted).await {
                    Ok(written) => {
                        assert_eq!(written[1], Written::Appended(count + 1));
                        break;
                    }
                    Err(error) => assert!(matches!(error, StoreError::Conflict { .. }), "{error}"),
                }
            }
            let expect = store.extent("room/b").await.unwrap().last;
            match store.commit(vec![Write::Forget { stream: "room/b".into(), expect }]).await {
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::join!(work(&one, "one"), work(&other, "other"));
    assert_eq!(one.get("count").await.unwrap().unwrap(), (2 * EACH).to_string());
    let said = texts(&other, "room/a", 1).await;
    assert!(said.iter().map(|(sequence, _)| *sequence).eq(1..=2 * EACH));
    for who in ["one", "other"] {
        let own = said.iter().filter_map(|(_, text)| text.strip_prefix(&format!("{who} ")));
        assert!(own.eq((1..=EACH).map(|n| n.to_string()).collect::<Vec<_>>()));
    }
}

/// Each connection of the store is cut again and again, somewhere in the midst of
/// commits. Each of them is answered, and made once.
#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn a_commit_whose_connection_was_cut_is_made_once() {
    const COMMITS: u64 = 600;
    let installed = Installed::shared().await;
    let url = installed.database().await;
    let name = url.rsplit('/').next().unwrap();
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    let store = Postgres::open(&url, Arc::default()).await.unwrap();
    let mut cutting = None;
    for n in 1..=COMMITS {
        if n % 30 == 0 {
            let cut = cut.clone();
            let cutting = cutting.replace(tokio::spawn(async move { installed.run("postgres", &cut).await }));
            if let Some(cut) = cutting {
                cut.await.unwrap().unwrap();
            }
        }
        let once = vec![append("a", &n.to_string()), put("last", &n.to_string(), Expect::Anything)];
        assert_eq!(store.commit(once).await.unwrap()[0], Written::Appended(n));
    }
    let texts = texts(&store, "a", 1).await;
    assert!(texts.into_iter().eq((1..=COMMITS).map(|n| (n, n.to_string()))));
}

#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn a_server_that_was_declared_dead_commits_nothing_more() {
    let installed = Installed::shared().await;
    let url = installed.database().await;
    let [one, other] = [
        Postgres::open(&url, Arc::default()).await.unwrap(),
        Postgres::open(&url, Arc::default()).await.unwrap(),
    ];
    one.commit(vec![append("a", "before")]).await.unwrap();
    let mut peers = other.peers();
    let me = one.peers().me();
    assert!(!peers.is_dead(me));
    let bury = format!("UPDATE fourmodes.server SET alive = false WHERE id = {me}");
    installed.run(url.rsplit('/').next().unwrap(), &bury).await.unwrap();
    for _ in 0..2 {
        let refused = one.commit(vec![append("a", "late")]).await.unwrap_err();
        assert!(matches!(&refused, StoreError::Broken(why) if why.contains("declared")), "{refused}");
    }
    within(one.dead().cancelled()).await;
    within(async {
        while !peers.is_dead(me) {
            peers.changed().await;
        }
    })
    .await;
    assert_eq!(texts(&other, "a", 1).await, [(1, "before".into())]);
}

#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn a_server_that_is_gone_is_found_dead() {
    let url = Installed::shared().await.database().await;
    let [one, other] = [
        Postgres::open(&url, Arc::default()).await.unwrap(),
        Postgres::open(&url, Arc::default()).await.unwrap(),
    ];
    let (me, mut peers) = (one.peers().me(), other.peers());
    assert!(!peers.is_dead(me));
    one.close().await;
    within(async {
        while !peers.is_dead(me) {
            peers.changed().await;
        }
    })
    .await;
    assert!(!peers.is_dead(other.peers().me()) && !peers.is_dead(me + 1000));
}

/// Without a quorum a commit is not acknowledged. Health follows, and the commit is made
/// once when the standbys are back.
#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn what_no_standby_has_is_not_acknowledged() {
    let installed = Installed::start(&["fsync=off"]);
    installed.listens().await;
    let store = Postgres::open(&installed.database().await, Arc::default()).await.unwrap();
    let mut works = store.works();
    let id = Some([7; 16]);
    assert_eq!(store.commit(vec![append_once("a", "1", id)]).await.unwrap(), [Written::Appended(1)]);
    let quorum = async |names: &str| {
        installed
            .run("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))
            .await
            .unwrap();
        installed.run("postgres", "SELECT pg_reload_conf()").await.unwrap();
    };
    let on = async |names: &str| {
        quorum(names).await;
        // The setting is there when a new connection has it.
        within(async {
            let check = format!(
                "DO $$ BEGIN IF current_setting('synchronous_standby_names') <> '{names}' THEN RAISE 'not yet'; END IF; END $$"
            );
            while installed.run("postgres", &check).await.is_err() {}
        })
        .await;
    };
    on("ANY 1 (nobody)").await;
    let first = tokio::spawn(store.commit(vec![append_once("a", "2", Some([8; 16]))]));
    let waits = "DO $$ BEGIN PERFORM FROM pg_stat_activity WHERE wait_event = 'SyncRep'; \
                 IF NOT FOUND THEN RAISE 'not yet'; END IF; END $$";
    within(async { while installed.run("postgres", waits).await.is_err() {} }).await;
    // What comes after it must not be made before it.
    let next = store.commit(vec![append("a", "3")]);
    let lost = first.await.unwrap().unwrap_err();
    assert!(matches!(lost, StoreError::Broken(_)), "{lost}");
    within(works.wait_for(|works| !works)).await.unwrap();
    // Reads go on, and show nothing that is not acknowledged.
    assert_eq!(texts(&store, "a", 1).await, [(1, "1".into())]);
    quorum("").await;
    assert!(matches!(next.await, Err(StoreError::Broken(_))));
    within(works.wait_for(|works| *works)).await.unwrap();
    let again = store.commit(vec![append_once("a", "2", Some([8; 16]))]).await.unwrap();
    assert!(matches!(again[..], [Written::Appended(2) | Written::Known(2)]), "{again:?}");
    assert_eq!(texts(&store, "a", 1).await, [(1, "1".into()), (2, "2".into())]);
}

#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn a_database_that_cannot_be_used_is_said_to_be_so() {
    let installed = Installed::shared().await;
    let refused = async |url: &str, words: &str| {
        let error = Postgres::open(url, Arc::default()).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused("http://127.0.0.1", "postgres://user@host/name").await;
    refused("postgres://test@127.0.0.1:1/x", "PostgreSQL cannot be used: ").await;
    refused(&installed.url("nowhere"), "database \"nowhere\" does not exist").await;
    let url = installed.database().await;
    let name = url.rsplit('/').next().unwrap();
    installed.run(name, "CREATE ROLE guest LOGIN").await.unwrap();
    refused(&url.replace("test@", "guest@"), "GRANT CREATE ON DATABASE").await;
    Postgres::open(&url, Arc::default()).await.unwrap().close().await;
    installed.run(name, "UPDATE fourmodes.meta SET format = 99").await.unwrap();
    refused(&url, "format 99").await;
}

/// As when a new version is rolled out: several new servers start on the tables of the
/// first version, while a server of that version goes on.
#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn tables_of_the_first_version_are_of_use_to_both_versions() {
    const REGISTER: &str = "
        INSERT INTO server DEFAULT VALUES;
        INSERT INTO lease VALUES (
            (SELECT max(id) FROM server), clock_timestamp() + make_interval(secs => 3600)
        )";
    let installed = Installed::shared().await;
    let url = installed.database().await;
    let name = url.rsplit('/').next().unwrap();
    installed.run(name, include_str!("first-tables.sql")).await.unwrap();
    let (old, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    old.batch_execute("SET search_path = fourmodes").await.unwrap();
    old.batch_execute(REGISTER).await.unwrap();
    let beat = old.prepare(
        "UPDATE lease SET expires = clock_timestamp() + make_interval(secs => $2) WHERE server = $1",
    );
    let beat = beat.await.unwrap();
    let living = old.prepare(
        "SELECT id, expires < clock_timestamp(), known
        FROM (SELECT max(id) AS known FROM server) AS every
        LEFT JOIN (server JOIN lease ON server = id) ON alive",
    );
    let living = living.await.unwrap();

    let stores = open_at_once(&url).await;
    stores[0].commit(vec![append("a", "x")]).await.unwrap();
    assert_eq!(old.execute(&beat, &[&1_i64, &3600.0_f64]).await.unwrap(), 1);
    assert_eq!(old.query(&living, &[]).await.unwrap().len(), 5);
    old.batch_execute(REGISTER).await.unwrap();
    // The new servers hear of the end of an old one, which has no address for clients.
    let mut peers = stores[3].peers();
    assert!(!peers.is_dead(1));
    old.batch_execute("UPDATE server SET alive = false WHERE id = 1").await.unwrap();
    within(async {
        while !peers.is_dead(1) {
            peers.changed().await
        }
    })
    .await;
    assert_eq!(*stores[3].others().borrow(), []);
    drop((old, connection));
}

async fn open_at_once(url: &str) -> Vec<Postgres> {
    let opened = [(); 4].map(|()| {
        let url = url.to_owned();
        tokio::spawn(within(async move { Postgres::open(&url, Arc::default()).await.unwrap() }))
    });
    let mut stores = Vec::new();
    for store in opened {
        stores.push(store.await.unwrap());
    }
    stores
}

/// Opened by several at once, the tables are made once.
#[tokio::test]
#[ignore = "needs PostgreSQL: just cluster-test"]
async fn servers_that_start_together_have_numbers_of_their_own() {
    let url = Installed::shared().await.database().await;
    let mut numbers = BTreeSet::new();
    let stores = open_at_once(&url).await;
    for store in &stores {
        numbers.insert(store.peers().me());
        store.commit(vec![append("a", "x")]).await.unwrap();
    }
    assert_eq!(numbers.len(), 4);
    assert_eq!(stores[0].get("none").await.unwrap(), None::<Bytes>);
}

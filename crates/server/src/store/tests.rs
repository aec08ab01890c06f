//! What both stores promise, and what the file promises on top: nothing that
//! was acknowledged is lost, and damage is said.

use std::{
    collections::BTreeSet,
    io,
    ops::{Deref, RangeInclusive},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use ::redb::{Database, StorageBackend};
use bytes::Bytes;
use domain::store::{Expect, Extent, Id, Memory, Store, StoreError, Write, Written};
use proptest::prelude::*;
use tokio::sync::watch;

use super::{
    Data, State,
    redb::{Medium, OpenError, Redb},
};

/// Closed when it is dropped.
fn open(directory: &Path) -> anyhow::Result<Opened> {
    State::open(&Data::Directory(directory.to_owned())).map(Opened)
}

#[derive(Debug)]
struct Opened(State);

impl Deref for Opened {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.0.store
    }
}

/// Waits until the thread of a store that was dropped has let go of its file.
fn released(directory: &Path) -> &Path {
    while super::lock(directory).is_err() {
        std::thread::yield_now();
    }
    directory
}

fn reopen(directory: &Path) -> Opened {
    open(released(directory)).unwrap()
}

fn append(stream: &str, record: &str) -> Write {
    append_once(stream, record, None)
}

fn append_once(stream: &str, record: &str, id: Option<Id>) -> Write {
    Write::Append { stream: stream.into(), record: record.to_owned().into(), id, expect: None }
}

fn put(key: &str, value: &str, expect: Expect) -> Write {
    Write::Put { key: key.into(), value: value.to_owned().into(), expect }
}

fn value(text: &'static str) -> Expect {
    Expect::Value(Bytes::from(text))
}

async fn texts(store: &dyn Store, stream: &str, from: u64) -> Vec<(u64, String)> {
    let records = store.read(stream, from, usize::MAX).await.unwrap();
    records.into_iter().map(|r| (r.sequence, String::from_utf8(r.bytes.into()).unwrap())).collect()
}

/// Runs a test with either store.
async fn with_both(test: impl AsyncFn(&dyn Store)) {
    test(&Memory::default()).await;
    let directory = tempfile::tempdir().unwrap();
    test(&*open(directory.path()).unwrap()).await;
}

#[tokio::test]
async fn records_come_in_order_and_are_read_by_cursor() {
    with_both(async |store| {
        let written = store.commit(vec![append("a", "1"), append("b", "x"), append("a", "2")]).await;
        assert_eq!(written.unwrap(), [1, 1, 2].map(Written::Appended));
        assert_eq!(texts(store, "a", 1).await, [(1, "1".into()), (2, "2".into())]);
        assert_eq!(texts(store, "a", 2).await, [(2, "2".into())]);
        assert_eq!(texts(store, "a", 3).await, []);
        assert_eq!(texts(store, "nothing", 1).await, []);
        assert_eq!(store.read("a", 1, 1).await.unwrap().len(), 1);
        assert_eq!(store.extent("a").await.unwrap(), Extent { first: 1, last: 2, bytes: 2 });
        assert_eq!(store.extent("nothing").await.unwrap(), Extent::empty_after(0));
    })
    .await;
}

#[tokio::test]
async fn a_commit_is_made_whole_or_not_at_all() {
    with_both(async |store| {
        store.commit(vec![append("a", "1"), put("k", "1", Expect::Nothing)]).await.unwrap();
        let expect = |sequence| Write::Append {
            stream: "a".into(),
            record: "2".into(),
            id: None,
            expect: Some(sequence),
        };
        for refused in [
            vec![append("a", "2"), put("k", "2", Expect::Nothing)],
            vec![append("a", "2"), put("k", "2", value("9"))],
            vec![put("k", "2", Expect::Anything), expect(0)],
            vec![append("a", "2"), Write::Delete { key: "k".into(), expect: value("9") }],
        ] {
            let error = store.commit(refused.clone()).await.unwrap_err();
            assert!(matches!(error, StoreError::Conflict { .. }), "{refused:?}: {error}");
        }
        assert_eq!(texts(store, "a", 1).await, [(1, "1".into())]);
        assert_eq!(store.get("k").await.unwrap().unwrap(), "1");
        store.commit(vec![expect(1), put("k", "2", value("1"))]).await.unwrap();
        assert_eq!(store.get("k").await.unwrap().unwrap(), "2");
        store.commit(vec![Write::Delete { key: "k".into(), expect: value("2") }]).await.unwrap();
        assert_eq!(store.get("k").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_record_with_a_known_id_is_not_appended_again() {
    with_both(async |store| {
        let id = |n| Some([n; 16]);
        let commit =
            async |stream: &str, n| store.commit(vec![append_once(stream, "x", id(n))]).await.unwrap();
        assert_eq!(commit("a", 1).await, [Written::Appended(1)]);
        assert_eq!(commit("a", 2).await, [Written::Appended(2)]);
        assert_eq!(commit("a", 1).await, [Written::Known(1)]);
        assert_eq!(commit("b", 1).await, [Written::Appended(1)]);
        // Twice in one commit, and twice in one group.
        let twice = store.commit(vec![append_once("a", "x", id(3)), append_once("a", "x", id(3))]);
        let again = store.commit(vec![append_once("a", "x", id(3))]);
        assert_eq!(twice.await.unwrap(), [Written::Appended(3), Written::Known(3)]);
        assert_eq!(again.await.unwrap(), [Written::Known(3)]);
        store.commit(vec![Write::Trim { stream: "a".into(), before: 2 }]).await.unwrap();
        assert_eq!(commit("a", 1).await, [Written::Appended(4)]);
    })
    .await;
}

#[tokio::test]
async fn what_was_trimmed_is_said_to_be_gone() {
    with_both(async |store| {
        store.commit((0..5).map(|_| append("a", "x")).collect()).await.unwrap();
        store.commit(vec![Write::Trim { stream: "a".into(), before: 4 }]).await.unwrap();
        assert_eq!(store.read("a", 3, 9).await, Err(StoreError::Trimmed { from: 3, first: 4 }));
        assert_eq!(texts(store, "a", 4).await.len(), 2);
        assert_eq!(store.extent("a").await.unwrap(), Extent { first: 4, last: 5, bytes: 2 });
        store.commit(vec![Write::Trim { stream: "a".into(), before: u64::MAX }]).await.unwrap();
        assert_eq!(store.extent("a").await.unwrap(), Extent { first: 6, last: 5, bytes: 0 });
        assert_eq!(store.commit(vec![append("a", "x")]).await.unwrap(), [Written::Appended(6)]);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_was_forgotten_begins_anew_behind_what_it_had() {
    with_both(async |store| {
        let forget =
            |stream: &str, expect| store.commit(vec![Write::Forget { stream: stream.into(), expect }]);
        store
            .commit(["r/a", "r/a", "r/a", "r/b", "s"].map(|stream| append(stream, "x")).into())
            .await
            .unwrap();
        assert!(matches!(forget("r/a", 2).await, Err(StoreError::Conflict { .. })));
        forget("r/a", 3).await.unwrap();
        let extent = Extent { first: 1, last: 1, bytes: 1 };
        assert_eq!(store.streams("r/", "", 9).await.unwrap(), [("r/b".to_owned(), extent)]);
        // What its readers knew is gone, also where it never was.
        for name in ["r/a", "r/new"] {
            assert_eq!(store.extent(name).await.unwrap(), Extent::empty_after(3));
            assert_eq!(store.read(name, 3, 9).await, Err(StoreError::Trimmed { from: 3, first: 4 }));
        }
        assert_eq!(store.extent("t").await.unwrap(), Extent::empty_after(0));
        assert_eq!(store.commit(vec![append("r/a", "y")]).await.unwrap(), [Written::Appended(4)]);
        // Those that were there go on, and so does what was forgotten before.
        assert_eq!(store.commit(vec![append("r/b", "y")]).await.unwrap(), [Written::Appended(2)]);
        forget("r/b", 2).await.unwrap();
        assert_eq!(store.extent("r/b").await.unwrap(), Extent::empty_after(3));
        // Once more changes nothing.
        forget("r/b", 3).await.unwrap();
        assert_eq!(store.extent("r/b").await.unwrap(), Extent::empty_after(3));
        let names = async |after: &str, most| {
            let listed = store.streams("", after, most).await.unwrap();
            listed.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names("", 1).await, ["r/a"]);
        assert_eq!(names("r/a", 9).await, ["s"]);
    })
    .await;
}

#[tokio::test]
async fn keys_are_listed_in_order_and_by_pages() {
    with_both(async |store| {
        let keys = ["t/a", "t/b", "t/c", "s", "u", "t/"];
        store.commit(keys.map(|key| put(key, key, Expect::Nothing)).into()).await.unwrap();
        let page = async |after: &str, most| {
            let listed = store.list("t/", after, most).await.unwrap();
            listed
                .into_iter()
                .map(|(key, value)| {
                    assert_eq!(key, value);
                    key
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(page("", 2).await, ["t/", "t/a"]);
        assert_eq!(page("t/a", 9).await, ["t/b", "t/c"]);
        assert_eq!(page("t/c", 9).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn whoever_watches_is_woken() {
    with_both(async |store| {
        let mut more = store.watch("a");
        more.borrow_and_update();
        store.commit(vec![append("b", "x")]).await.unwrap();
        assert!(!more.has_changed().unwrap());
        store.commit(vec![append("a", "x"), append("a", "y")]).await.unwrap();
        more.changed().await.unwrap();
        assert_eq!(*more.borrow_and_update(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_large_history_is_read_in_bounded_pieces() {
    with_both(async |store| {
        let record = "x".repeat(400 << 10);
        store.commit((0..6).map(|_| append("a", &record)).collect()).await.unwrap();
        assert_eq!(store.read("a", 1, 100).await.unwrap().len(), 2);
        store.commit(vec![append("b", &"x".repeat(3 << 20))]).await.unwrap();
        assert_eq!(store.read("b", 1, 100).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn commits_take_effect_in_the_order_of_the_calls() {
    with_both(async |store| {
        let commits: Vec<_> = (0..2_000).map(|n| store.commit(vec![append("a", &n.to_string())])).collect();
        for (n, commit) in (1..).zip(commits) {
            assert_eq!(commit.await.unwrap(), [Written::Appended(n)]);
        }
        let texts = texts(store, "a", 1).await;
        assert!(texts.iter().all(|(sequence, text)| text.parse() == Ok(sequence - 1)));
    })
    .await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_the_file_was_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    store.commit(vec![append_once("a", "1", Some([7; 16])), put("k", "v", Expect::Nothing)]).await.unwrap();
    store.commit(vec![append("b", "1")]).await.unwrap();
    drop(store);
    let store = reopen(directory.path());
    assert_eq!(texts(&*store, "a", 1).await, [(1, "1".into())]);
    let written =
        store.commit(vec![append_once("a", "1", Some([7; 16])), append("c", "1"), append("b", "2")]).await;
    assert_eq!(written.unwrap(), [Written::Known(1), Written::Appended(1), Written::Appended(2)]);
    assert_eq!(store.get("k").await.unwrap().unwrap(), "v");
}

#[tokio::test]
async fn a_directory_has_one_server() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path()).unwrap();
    let second = open(directory.path()).unwrap_err().to_string();
    assert!(second.contains("another server has its state in"), "{second}");
}

/// A store with some history.
async fn filled(directory: &Path) {
    let store = open(directory).unwrap();
    for n in 0..200 {
        let text = format!("{n} {}", "x".repeat(200));
        let id = Some(u128::to_be_bytes(n));
        store
            .commit(vec![append_once("a", &text, id), put(&n.to_string(), &text, Expect::Nothing)])
            .await
            .unwrap();
    }
}

async fn contents(store: &dyn Store) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut all = Vec::new();
    for record in store.read("a", 1, usize::MAX).await? {
        all.push(record.bytes.to_vec());
    }
    for (key, value) in store.list("", "", usize::MAX).await? {
        all.extend([key.into_bytes(), value.to_vec()]);
    }
    Ok(all)
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_never_taken_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await;
    let file = directory.path().join("state.redb");
    let whole = contents(&*reopen(directory.path())).await.unwrap();
    let good = std::fs::read(&file).unwrap();
    let mut refused = 0;
    let mut check = async |bytes: Vec<u8>, what: String| {
        released(directory.path());
        std::fs::write(&file, &bytes).unwrap();
        match open(directory.path()) {
            Err(error) => {
                refused += 1;
                let error = format!("{error:#}");
                assert!(error.contains("state.redb"), "{what}: {error}");
                assert_eq!(std::fs::read(&file).unwrap().len(), bytes.len(), "{what}: it was written to");
            }
            // Much of a file is not in use; then nothing may be missing.
            Ok(store) => assert_eq!(contents(&*store).await.unwrap(), whole, "{what}"),
        }
    };
    let mut random = fastrand::Rng::with_seed(7);
    for length in [0, 1, 17, 512, 4096, good.len() / 2, good.len() - 4096, good.len() - 1] {
        check(good[..length].to_vec(), format!("cut to {length}")).await;
    }
    for _ in 0..150 {
        let mut bytes = good.clone();
        let at = random.usize(..bytes.len());
        bytes[at] ^= 1 << random.u8(..8);
        check(bytes, format!("flipped at {at}")).await;
    }
    for foreign in [&b"#!/bin/sh\necho hello\n"[..], &[0; 8192], &good[4096..]] {
        check(foreign.to_vec(), "a foreign file".to_owned()).await;
    }
    assert!(refused > 20, "only {refused} were refused");
}

/// A disk in memory. It loses what was not synced when its power fails. What a sync
/// failed to write is lost even when the next one succeeds: the system takes it for
/// written.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Sectors>>);

#[derive(Debug, Clone, Default)]
struct Sectors {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// The pages that the next sync has to write.
    dirty: BTreeSet<usize>,
    /// After so many calls one fails.
    fails_after: Option<u32>,
    /// And all after it.
    fails_on: bool,
    full: bool,
    opened: u32,
}

impl Disk {
    const PAGE: usize = 4096;

    /// With an empty store.
    fn formatted() -> Self {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).unwrap());
        Self::with(std::fs::read(released(directory.path()).join("state.redb")).unwrap())
    }

    fn with(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Sectors { durable: bytes.clone(), bytes, ..Sectors::default() })))
    }

    fn now(&self) -> MutexGuard<'_, Sectors> {
        self.0.lock().unwrap()
    }

    fn store(&self) -> Result<Redb, OpenError> {
        Redb::with(Box::new(self.clone()))
    }

    /// What a new start finds when the power fails now.
    fn after_power_failure(&self) -> Self {
        Self::with(self.now().durable.clone())
    }
}

impl Sectors {
    fn call(&mut self) -> io::Result<()> {
        match &mut self.fails_after {
            Some(0) => {
                if !self.fails_on {
                    self.fails_after = None;
                }
                return Err(io::Error::other("the disk does not answer"));
            }
            Some(calls) => *calls -= 1,
            None => {}
        }
        Ok(())
    }
}

impl Medium for Disk {
    fn open(&self) -> Result<Database, OpenError> {
        self.now().opened += 1;
        super::redb::checked(Path::new("state.redb"), || {
            Database::builder().create_with_backend(self.clone())
        })
    }

    fn try_room(&self, _: u64) -> io::Result<()> {
        if self.now().full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.now().bytes.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut now = self.now();
        now.call()?;
        out.copy_from_slice(&now.bytes[offset as usize..][..out.len()]);
        Ok(())
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut now = self.now();
        now.call()?;
        now.bytes.resize(length as usize, 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        let now = &mut *self.now();
        let dirty = std::mem::take(&mut now.dirty);
        now.call()?;
        now.durable.resize(now.bytes.len(), 0);
        for page in dirty.iter().map(|page| page * Self::PAGE).filter(|page| *page < now.bytes.len()) {
            now.durable[page..][..Self::PAGE].copy_from_slice(&now.bytes[page..][..Self::PAGE]);
        }
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut now = self.now();
        now.call()?;
        let (from, to) = (offset as usize, offset as usize + data.len());
        // What is all zero was never written, and takes no room.
        if now.full && now.bytes[from..to].iter().all(|byte| *byte == 0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        now.bytes[from..to].copy_from_slice(data);
        now.dirty.extend(from / Self::PAGE..to.div_ceil(Self::PAGE));
        Ok(())
    }
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_cannot_keep_and_reads_go_on() {
    let disk = Disk::formatted();
    let store = disk.store().unwrap();
    store.commit(vec![append("a", "before")]).await.unwrap();
    disk.now().full = true;
    let large = "x".repeat(1 << 20);
    for _ in 0..20 {
        assert_eq!(store.commit(vec![append("a", &large)]).await, Err(StoreError::Full));
        assert_eq!(texts(&store, "a", 1).await, [(1, "before".into())]);
    }
    assert_eq!(disk.now().opened, 2, "only the first one that did not fit had to be tried");
    disk.now().full = false;
    for sequence in 2..4 {
        assert_eq!(store.commit(vec![append("a", &large)]).await.unwrap(), [Written::Appended(sequence)]);
    }
    assert_eq!(disk.now().opened, 2);
    let store = disk.after_power_failure().store().unwrap();
    assert_eq!(store.extent("a").await.unwrap().last, 3);
}

/// Every call to the disk fails once, and in a second round all after it as well,
/// until a commit was refused. Whatever can be read then is still there when the
/// power fails, and whoever watches has heard of it.
#[tokio::test]
async fn whichever_call_fails_nothing_acknowledged_is_lost_and_nothing_else_is_shown() {
    const TEXTS: u8 = 3;
    let fresh = Disk::formatted();
    for fails_on in [false, true] {
        let mut calls = 0;
        loop {
            let disk = Disk(Arc::new(Mutex::new(fresh.now().clone())));
            (disk.now().fails_after, disk.now().fails_on) = (Some(calls), fails_on);
            let store = match disk.store() {
                Ok(store) => store,
                Err(error) => {
                    assert!(matches!(error, OpenError::Disk(..)), "{calls}: {error}");
                    disk.now().fails_after = None;
                    disk.store().unwrap()
                }
            };
            let more = store.watch("a");
            for n in 1..=TEXTS {
                let post = || vec![append_once("a", &n.to_string(), Some([n; 16]))];
                while let Err(error) = store.commit(post()).await {
                    assert!(matches!(error, StoreError::Broken(_)), "{calls}: {error}");
                    disk.now().fails_after = None;
                    check(&store, &disk, &more, n - 1..=n).await;
                }
                check(&store, &disk, &more, n..=n).await;
            }
            if disk.now().fails_after.is_some() {
                break;
            }
            calls += 1;
        }
        assert!(calls > 50, "only {calls} calls");
    }
}

async fn check(store: &Redb, disk: &Disk, more: &watch::Receiver<u64>, expected: RangeInclusive<u8>) {
    let shown = loop {
        match store.read("a", 1, usize::MAX).await {
            Ok(shown) => break shown,
            // The call that fails was one of this.
            Err(_) => disk.now().fails_after = None,
        }
    };
    let last = shown.len() as u8;
    assert!(expected.contains(&last), "{last} instead of {expected:?}");
    assert_eq!(u64::from(last), *more.borrow());
    let survived = disk.after_power_failure().store().unwrap();
    assert_eq!(survived.read("a", 1, usize::MAX).await.unwrap(), shown);
}

#[tokio::test]
async fn a_damaged_last_commit_is_refused_and_not_taken_back() {
    let disk = Disk::formatted();
    let store = disk.store().unwrap();
    for n in 0..50 {
        store.commit(vec![append("a", &n.to_string())]).await.unwrap();
    }
    let before = disk.now().bytes.clone();
    store.commit(vec![append("a", "last")]).await.unwrap();
    let killed = disk.now().bytes.clone();
    let mut refused = 0;
    // The header has checksums of its own; which of its two halves holds is one bit.
    for page in (Disk::PAGE..killed.len()).step_by(Disk::PAGE) {
        let Some(at) = (page..page + Disk::PAGE).find(|at| before.get(*at) != Some(&killed[*at])) else {
            continue;
        };
        let mut bytes = killed.clone();
        bytes[at] ^= 1;
        match Disk::with(bytes).store() {
            Err(_) => refused += 1,
            Ok(store) => assert_eq!(store.extent("a").await.unwrap().last, 51, "flipped at {at}"),
        }
    }
    assert!(refused > 1, "only {refused} were refused");
    assert_eq!(Disk::with(killed).store().unwrap().extent("a").await.unwrap().last, 51);
}

#[tokio::test]
async fn a_state_that_was_dropped_has_nothing_to_repair() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(&Data::Directory(directory.path().to_owned())).unwrap();
    let store = state.store.clone();
    store.commit(vec![append("a", "1")]).await.unwrap();
    drop(state);
    assert!(matches!(store.commit(vec![append("a", "2")]).await, Err(StoreError::Broken(_))));
    assert!(matches!(store.read("a", 1, 9).await, Err(StoreError::Broken(_))));
    let mut builder = Database::builder();
    builder.set_repair_callback(|repair| repair.abort());
    drop(builder.open(directory.path().join("state.redb")).unwrap());
    drop(store);
    assert_eq!(texts(&*reopen(directory.path()), "a", 1).await, [(1, "1".into())]);
}

#[tokio::test]
async fn a_state_of_which_a_part_is_gone_is_not_taken_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    released(directory.path());
    let state = directory.path().join("state.redb");
    for folder in ["blobs", "partial"] {
        let folder = directory.path().join(folder);
        std::fs::create_dir(&folder).unwrap();
        drop(reopen(directory.path()));
        released(directory.path());
        let file = folder.join("kept");
        std::fs::write(&file, "x").unwrap();
        std::fs::rename(&state, directory.path().join("elsewhere")).unwrap();
        let error = open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("state.redb is gone"), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
        assert!(!state.exists());
        std::fs::remove_file(file).unwrap();
        std::fs::rename(directory.path().join("elsewhere"), &state).unwrap();
    }
}

/// A small world, so that writes meet.
fn any_write() -> impl Strategy<Value = Write> {
    let stream = prop_oneof![Just("s/a".to_owned()), Just("s/b".to_owned())];
    let key = prop_oneof![Just("k".to_owned()), Just("l".to_owned())];
    let text = "[xy]{0,2}".prop_map(Bytes::from);
    let expect = prop_oneof![
        Just(Expect::Anything),
        Just(Expect::Nothing),
        "[xy]{0,2}".prop_map(|text| Expect::Value(text.into()))
    ];
    let id = prop::option::of((0u8..6).prop_map(|n| [n; 16]));
    prop_oneof![
        4 => (stream.clone(), text.clone(), id, prop::option::of(0u64..4))
            .prop_map(|(stream, record, id, expect)| Write::Append { stream, record, id, expect }),
        1 => (stream.clone(), 0u64..12).prop_map(|(stream, before)| Write::Trim { stream, before }),
        1 => (stream, 0u64..4).prop_map(|(stream, expect)| Write::Forget { stream, expect }),
        2 => (key.clone(), text, expect.clone()).prop_map(|(key, value, expect)| Write::Put { key, value, expect }),
        1 => (key, expect).prop_map(|(key, expect)| Write::Delete { key, expect }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The file does what memory does, also when it is opened again in between.
    #[test]
    fn both_stores_do_the_same(commits in prop::collection::vec(prop::collection::vec(any_write(), 1..4), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let model = Memory::default();
            let directory = tempfile::tempdir().unwrap();
            let mut file = open(directory.path()).unwrap();
            for (n, writes) in commits.into_iter().enumerate() {
                assert_eq!(file.commit(writes.clone()).await, model.commit(writes).await);
                if n % 16 == 15 {
                    drop(file);
                    file = reopen(directory.path());
                }
                assert_eq!(file.streams("s/", "", 9).await, model.streams("s/", "", 9).await);
                for stream in ["s/a", "s/b"] {
                    let extent = model.extent(stream).await.unwrap();
                    assert_eq!(file.extent(stream).await.unwrap(), extent);
                    for from in extent.first.saturating_sub(1)..=extent.last + 1 {
                        assert_eq!(file.read(stream, from, 9).await, model.read(stream, from, 9).await);
                    }
                }
                assert_eq!(file.list("", "", 9).await, model.list("", "", 9).await);
            }
        });
    }
}

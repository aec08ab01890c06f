//! What the file promises on top: nothing that was acknowledged is lost, and damage
//! is said.

use std::{
    collections::BTreeSet,
    io,
    ops::{Deref, RangeInclusive},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use ::redb::{Database, StorageBackend};
use domain::store::{Expect, Memory, Store, StoreError, Written};
use proptest::prelude::*;
use tokio::sync::watch;

use super::{
    super::{
        Data, State,
        redb::{Medium, OpenError, Redb},
    },
    any_commits, append, append_once, assert_same, put, texts,
};

/// Closed when it is dropped.
pub(super) fn open(directory: &Path) -> anyhow::Result<Opened> {
    State::open(&Data::Directory(directory.to_owned())).map(Opened)
}

#[derive(Debug)]
pub(super) struct Opened(State);

impl Deref for Opened {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.0.store
    }
}

/// Waits until the thread of a store that was dropped has let go of its file.
fn released(directory: &Path) -> &Path {
    while super::super::lock(directory).is_err() {
        std::thread::yield_now();
    }
    directory
}

fn reopen(directory: &Path) -> Opened {
    open(released(directory)).unwrap()
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
        super::super::redb::checked(Path::new("state.redb"), || {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_file_does_what_memory_does_also_when_it_is_opened_again(commits in any_commits()) {
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
                assert_same(&*file, &model).await;
            }
        });
    }
}

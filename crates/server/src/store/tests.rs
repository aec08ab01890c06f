//! What both stores promise, and what the file promises on top: nothing that
//! was acknowledged is lost, and damage is said.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use ::redb::{BackendError, Database, StorageBackend, backends::FileBackend};
use bytes::Bytes;
use domain::store::{Expect, Extent, Id, Memory, Store, StoreError, Write, Written};
use proptest::prelude::*;

use super::{Data, State, redb::Redb};

fn open(directory: &Path) -> anyhow::Result<Arc<dyn Store>> {
    State::open(&Data::Directory(directory.to_owned())).map(|state| state.store)
}

/// Waits until the thread of a store that was dropped has let go of its file.
fn released(directory: &Path) -> &Path {
    while super::lock(directory).is_err() {
        std::thread::yield_now();
    }
    directory
}

fn reopen(directory: &Path) -> Arc<dyn Store> {
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
async fn with_both(test: impl AsyncFn(Arc<dyn Store>)) {
    test(Arc::new(Memory::default())).await;
    let directory = tempfile::tempdir().unwrap();
    test(open(directory.path()).unwrap()).await;
}

#[tokio::test]
async fn records_come_in_order_and_are_read_by_cursor() {
    with_both(async |store| {
        let written = store.commit(vec![append("a", "1"), append("b", "x"), append("a", "2")]).await;
        assert_eq!(written.unwrap(), [1, 1, 2].map(Written::Appended));
        assert_eq!(texts(&*store, "a", 1).await, [(1, "1".into()), (2, "2".into())]);
        assert_eq!(texts(&*store, "a", 2).await, [(2, "2".into())]);
        assert_eq!(texts(&*store, "a", 3).await, []);
        assert_eq!(texts(&*store, "nothing", 1).await, []);
        assert_eq!(store.read("a", 1, 1).await.unwrap().len(), 1);
        assert_eq!(store.extent("a").await.unwrap(), Extent { first: 1, last: 2, bytes: 2 });
        assert_eq!(store.extent("nothing").await.unwrap(), Extent::EMPTY);
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
        assert_eq!(texts(&*store, "a", 1).await, [(1, "1".into())]);
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
        assert_eq!(texts(&*store, "a", 4).await.len(), 2);
        assert_eq!(store.extent("a").await.unwrap(), Extent { first: 4, last: 5, bytes: 2 });
        store.commit(vec![Write::Trim { stream: "a".into(), before: u64::MAX }]).await.unwrap();
        assert_eq!(store.extent("a").await.unwrap(), Extent { first: 6, last: 5, bytes: 0 });
        assert_eq!(store.commit(vec![append("a", "x")]).await.unwrap(), [Written::Appended(6)]);
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
        let texts = texts(&*store, "a", 1).await;
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

/// The file of a store, on a disk that fails on demand.
#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    fault: Arc<Fault>,
}

#[derive(Debug, Default)]
struct Fault {
    full: AtomicBool,
    no_sync: AtomicBool,
    /// How far the file has been written to: that much of the disk it has.
    had: AtomicU64,
}

impl Fault {
    fn take(&self, end: u64) -> io::Result<()> {
        match self.full.load(SeqCst) && end > self.had.load(SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => {
                self.had.fetch_max(end, SeqCst);
                Ok(())
            }
        }
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        match self.fault.no_sync.load(SeqCst) {
            true => Err(io::Error::other("the disk does not answer")),
            false => self.file.sync_data(),
        }
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fault.take(offset + data.len() as u64)?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
    fn try_lock_range(
        &self,
        start: std::ops::Bound<u64>,
        end: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
}

fn on_faulty_disk(directory: &Path) -> (Redb, Arc<Fault>) {
    drop(open(directory).unwrap());
    released(directory);
    let lock = super::lock(directory).unwrap();
    let fault = Arc::<Fault>::default();
    let (path, given) = (directory.join("state.redb"), fault.clone());
    let store = Redb::with(Box::new(move || {
        let _lock = &lock;
        super::redb::checked(&path, || {
            let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
            let backend = Faulty { file: FileBackend::new(file)?, fault: given.clone() };
            Database::builder().create_with_backend(backend)
        })
    }));
    (store.unwrap(), fault)
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_cannot_keep_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let (store, fault) = on_faulty_disk(directory.path());
    store.commit(vec![append("a", "before")]).await.unwrap();
    fault.full.store(true, SeqCst);
    let large = "x".repeat(1 << 20);
    for _ in 0..3 {
        assert_eq!(store.commit(vec![append("a", &large)]).await, Err(StoreError::Full));
        assert_eq!(texts(&store, "a", 1).await, [(1, "before".into())]);
    }
    fault.full.store(false, SeqCst);
    assert_eq!(store.commit(vec![append("a", "after")]).await.unwrap(), [Written::Appended(2)]);
    assert_eq!(texts(&store, "a", 1).await, [(1, "before".into()), (2, "after".into())]);
    drop(store);
    let store = reopen(directory.path());
    assert_eq!(texts(&*store, "a", 1).await.len(), 2);
}

#[tokio::test]
async fn nothing_is_acknowledged_that_was_not_synced() {
    let directory = tempfile::tempdir().unwrap();
    let (store, fault) = on_faulty_disk(directory.path());
    store.commit(vec![append("a", "before")]).await.unwrap();
    fault.no_sync.store(true, SeqCst);
    assert!(store.commit(vec![append("a", "refused")]).await.is_err());
    fault.no_sync.store(false, SeqCst);
    // What the store says now is what it has from now on.
    let next = store.commit(vec![append("a", "after")]).await.unwrap();
    let there = texts(&store, "a", 1).await;
    assert_eq!(next, [Written::Appended(there.len() as u64)]);
    assert_eq!((there[0].1.as_str(), there[there.len() - 1].1.as_str()), ("before", "after"));
}

/// A small world, so that writes meet.
fn any_write() -> impl Strategy<Value = Write> {
    let stream = prop_oneof![Just("a".to_owned()), Just("b".to_owned())];
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
        1 => (stream, 0u64..12).prop_map(|(stream, before)| Write::Trim { stream, before }),
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
                for stream in ["a", "b"] {
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

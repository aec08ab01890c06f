//! What every store promises.

mod database;
mod file;

use bytes::Bytes;
use domain::store::{Expect, Extent, Id, Memory, Store, StoreError, Write, Written};
use proptest::prelude::*;

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

/// Makes tests of these functions, for every kind of store.
macro_rules! for_every_store {
    ($($test:ident)*) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&domain::store::Memory::default()).await;
            })*
        }

        mod in_a_file {
            $(#[tokio::test]
            async fn $test() {
                let directory = tempfile::tempdir().unwrap();
                super::$test(&*super::file::open(directory.path()).unwrap()).await;
            })*
        }

        mod in_postgres {
            $(#[tokio::test]
            #[ignore = "needs PostgreSQL: just cluster-test"]
            async fn $test() {
                super::$test(&super::database::open().await).await;
            })*
        }
    };
}

for_every_store! {
    records_come_in_order_and_are_read_by_cursor
    a_commit_is_made_whole_or_not_at_all
    a_record_with_a_known_id_is_not_appended_again
    what_was_trimmed_is_said_to_be_gone
    a_stream_that_was_forgotten_begins_anew_behind_what_it_had
    keys_are_listed_in_order_and_by_pages
    whoever_watches_is_woken
    a_large_history_is_read_in_bounded_pieces
    commits_take_effect_in_the_order_of_the_calls
}

async fn records_come_in_order_and_are_read_by_cursor(store: &dyn Store) {
    let written = store.commit(vec![append("a", "1"), append("b", "x"), append("a", "2")]).await;
    assert_eq!(written.unwrap(), [1, 1, 2].map(Written::Appended));
    assert_eq!(texts(store, "a", 1).await, [(1, "1".into()), (2, "2".into())]);
    assert_eq!(texts(store, "a", 2).await, [(2, "2".into())]);
    assert_eq!(texts(store, "a", 3).await, []);
    assert_eq!(texts(store, "nothing", 1).await, []);
    assert_eq!(store.read("a", 1, 1).await.unwrap().len(), 1);
    assert_eq!(store.extent("a").await.unwrap(), Extent { first: 1, last: 2, bytes: 2 });
    assert_eq!(store.extent("nothing").await.unwrap(), Extent::empty_after(0));
}

async fn a_commit_is_made_whole_or_not_at_all(store: &dyn Store) {
    store.commit(vec![append("a", "1"), put("k", "1", Expect::Nothing)]).await.unwrap();
    let expect =
        |sequence| Write::Append { stream: "a".into(), record: "2".into(), id: None, expect: Some(sequence) };
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
}

async fn a_record_with_a_known_id_is_not_appended_again(store: &dyn Store) {
    let id = |n| Some([n; 16]);
    let commit = async |stream: &str, n| store.commit(vec![append_once(stream, "x", id(n))]).await.unwrap();
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
}

async fn what_was_trimmed_is_said_to_be_gone(store: &dyn Store) {
    store.commit((0..5).map(|_| append("a", "x")).collect()).await.unwrap();
    store.commit(vec![Write::Trim { stream: "a".into(), before: 4 }]).await.unwrap();
    assert_eq!(store.read("a", 3, 9).await, Err(StoreError::Trimmed { from: 3, first: 4 }));
    assert_eq!(texts(store, "a", 4).await.len(), 2);
    assert_eq!(store.extent("a").await.unwrap(), Extent { first: 4, last: 5, bytes: 2 });
    store.commit(vec![Write::Trim { stream: "a".into(), before: u64::MAX }]).await.unwrap();
    assert_eq!(store.extent("a").await.unwrap(), Extent { first: 6, last: 5, bytes: 0 });
    assert_eq!(store.commit(vec![append("a", "x")]).await.unwrap(), [Written::Appended(6)]);
}

async fn a_stream_that_was_forgotten_begins_anew_behind_what_it_had(store: &dyn Store) {
    let forget = |stream: &str, expect| store.commit(vec![Write::Forget { stream: stream.into(), expect }]);
    store.commit(["r/a", "r/a", "r/a", "r/b", "s"].map(|stream| append(stream, "x")).into()).await.unwrap();
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
}

async fn keys_are_listed_in_order_and_by_pages(store: &dyn Store) {
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
}

async fn whoever_watches_is_woken(store: &dyn Store) {
    let mut more = store.watch("a");
    more.borrow_and_update();
    store.commit(vec![append("b", "x")]).await.unwrap();
    assert!(!more.has_changed().unwrap());
    store.commit(vec![append("a", "x"), append("a", "y")]).await.unwrap();
    more.changed().await.unwrap();
    assert_eq!(*more.borrow_and_update(), 2);
}

async fn a_large_history_is_read_in_bounded_pieces(store: &dyn Store) {
    let record = "x".repeat(400 << 10);
    store.commit((0..6).map(|_| append("a", &record)).collect()).await.unwrap();
    assert_eq!(store.read("a", 1, 100).await.unwrap().len(), 2);
    store.commit(vec![append("b", &"x".repeat(3 << 20))]).await.unwrap();
    assert_eq!(store.read("b", 1, 100).await.unwrap().len(), 1);
}

async fn commits_take_effect_in_the_order_of_the_calls(store: &dyn Store) {
    let commits: Vec<_> = (0..2_000).map(|n| store.commit(vec![append("a", &n.to_string())])).collect();
    for (n, commit) in (1..).zip(commits) {
        assert_eq!(commit.await.unwrap(), [Written::Appended(n)]);
    }
    let texts = texts(store, "a", 1).await;
    assert!(texts.iter().all(|(sequence, text)| text.parse() == Ok(sequence - 1)));
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

/// What is there is the same.
async fn assert_same(store: &dyn Store, model: &Memory) {
    assert_eq!(store.streams("s/", "", 9).await, model.streams("s/", "", 9).await);
    for stream in ["s/a", "s/b"] {
        let extent = model.extent(stream).await.unwrap();
        assert_eq!(store.extent(stream).await.unwrap(), extent);
        for from in extent.first.saturating_sub(1)..=extent.last + 1 {
            assert_eq!(store.read(stream, from, 9).await, model.read(stream, from, 9).await);
        }
    }
    assert_eq!(store.list("", "", 9).await, model.list("", "", 9).await);
}

fn any_commits() -> impl Strategy<Value = Vec<Vec<Write>>> {
    prop::collection::vec(prop::collection::vec(any_write(), 1..4), 1..40)
}

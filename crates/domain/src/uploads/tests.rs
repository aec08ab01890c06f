//! What an upload promises, with a disk that fails, a crash at any time, and
//! random interleavings against a model.

use std::{fs, io::Read as _, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    Attempt, Begun, Progress, UploadError, Uploads,
    model::{self, LIMITS, Machine, Op, content, read, upload},
};
use crate::{
    resources::{Blob, Source, Upload},
    store::failing::{Failing, How},
};

impl Machine {
    /// How many uploads there are.
    async fn partials(&self) -> usize {
        match self.is_shared {
            true => self.store.list("upload/", "", 99).await.unwrap().len(),
            false => fs::read_dir(self.files.path().join("partial")).unwrap().count(),
        }
    }

    async fn blobs(&self) -> usize {
        match self.is_shared {
            true => self.store.list("content/", "", 99).await.unwrap().len(),
            false => fs::read_dir(self.files.path().join("blobs")).unwrap().count(),
        }
    }

    /// A crash takes back what was renamed and is not durable.
    fn lose_names(&self, upload: &Upload) {
        let blobs = self.files.path().join("blobs");
        let noted = fs::read_to_string(model::noted(&blobs)).unwrap();
        for name in model::names(&blobs).iter().filter(|name| !noted.lines().any(|noted| noted == **name)) {
            fs::rename(blobs.join(name), self.partial(upload)).unwrap();
        }
    }
}

pub(super) async fn begun(uploads: &Uploads, upload: &Upload, offset: u64) -> Attempt {
    match uploads.begin(upload.clone(), offset).await.unwrap() {
        Begun::Attempt(attempt) => attempt,
        Begun::Known => panic!("the content is known"),
    }
}

pub(super) async fn send(
    attempt: &mut Attempt,
    content: &[u8],
    from: usize,
    to: usize,
) -> Result<(), UploadError> {
    attempt.write(from as u64, Bytes::copy_from_slice(&content[from..to])).await
}

pub(super) async fn uploaded(uploads: &Uploads, upload: &Upload, content: &[u8]) {
    let mut attempt = begun(uploads, upload, 0).await;
    send(&mut attempt, content, 0, content.len()).await.unwrap();
    assert_eq!(attempt.finish().await.unwrap(), content.len() as u64);
}

async fn committed(uploads: &Uploads, upload: &Upload) -> Option<u64> {
    match uploads.progress(upload).await {
        Ok(Progress { committed, complete: false }) => Some(committed),
        Ok(progress) => panic!("{progress:?}"),
        Err(UploadError::NotFound(..)) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn an_upload_becomes_content_with_a_name(machine: Machine) {
    let uploads = machine.start().await;
    for size in [0, 1, 1000] {
        let content = content(1, size);
        let upload = upload(&content, "a");
        uploaded(&uploads, &upload, &content).await;
        assert_eq!(read(&uploads, "a").await.unwrap(), content);
        let progress = uploads.progress(&upload).await.unwrap();
        assert_eq!(progress, Progress { committed: size as u64, complete: true });
    }
    let listed = uploads.list("", 9).await.unwrap();
    assert_eq!((listed.len(), listed[0].0.as_str(), listed[0].1.blob.size), (1, "a", 1000));
    assert_eq!((machine.partials().await, machine.blobs().await), (0, 3));
}

async fn what_was_not_finished_is_no_content_and_goes_on_where_it_was(machine: Machine) {
    let content = content(1, 1000);
    let upload = upload(&content, "a");
    let uploads = machine.start().await;
    let mut attempt = begun(&uploads, &upload, 0).await;
    send(&mut attempt, &content, 0, 300).await.unwrap();
    assert_eq!(attempt.pause().await.unwrap(), 300);
    assert_eq!((committed(&uploads, &upload).await, read(&uploads, "a").await), (Some(300), None));

    let mut attempt = begun(&uploads, &upload, 300).await;
    send(&mut attempt, &content, 300, 500).await.unwrap();
    drop(attempt);
    // Waits until the one before has come to its end.
    let refused = uploads.begin(upload.clone(), 999).await.unwrap_err();
    let UploadError::NotCommittedSize { committed, .. } = refused else { panic!("{refused}") };
    assert!((300..=500).contains(&committed), "{committed}");

    let uploads = machine.start().await;
    let mut attempt = begun(&uploads, &upload, committed).await;
    send(&mut attempt, &content, committed as usize, 1000).await.unwrap();
    attempt.finish().await.unwrap();
    assert_eq!(read(&uploads, "a").await.unwrap(), content);
}

async fn a_new_attempt_takes_over_from_the_one_before(machine: Machine) {
    let uploads = machine.start().await;
    let content = content(1, 1000);
    let upload = upload(&content, "a");
    let mut first = begun(&uploads, &upload, 0).await;
    send(&mut first, &content, 0, 10).await.unwrap();
    let UploadError::NotCommittedSize { committed, .. } =
        uploads.begin(upload.clone(), 999).await.unwrap_err()
    else {
        panic!("another refusal")
    };
    assert!(matches!(send(&mut first, &content, 10, 20).await, Err(UploadError::Superseded)));
    let mut second = begun(&uploads, &upload, committed).await;
    assert!(matches!(first.finish().await, Err(UploadError::Superseded)));
    send(&mut second, &content, committed as usize, 1000).await.unwrap();
    assert_eq!(second.finish().await.unwrap(), 1000);
    assert_eq!(read(&uploads, "a").await.unwrap(), content);
}

/// A pipe that nobody reads takes the place of a disk that hangs.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_stuck_in_the_disk_is_fenced_off_and_its_file_left_alone_until_it_comes_back() {
    let machine = Machine::new();
    let uploads = machine.start().await;
    let content = content(1, 1 << 20);
    let upload = upload(&content, "a");
    let pipe = machine.partial(&upload);
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut reader = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let mut stuck = begun(&uploads, &upload, 0).await;
    send(&mut stuck, &content, 0, 1 << 19).await.unwrap();
    reader.read_exact(&mut [0]).unwrap();
    let mut next = Box::pin(uploads.begin(upload.clone(), 0));
    tokio::select! {
        biased;
        _ = &mut next => panic!("two have the file"),
        refused = async {
            // Until the queue is full: it is the fence that ends this.
            loop {
                if let Err(error) = stuck.write(1 << 19, Bytes::from_static(b"x")).await {
                    break error;
                }
                stuck.next -= 1;
            }
        } => assert!(matches!(refused, UploadError::Superseded), "{refused}"),
    }
    fs::remove_file(&pipe).unwrap();
    let drained = std::thread::spawn(move || reader.read_exact(&mut vec![0; (1 << 19) - 1]));
    let Begun::Attempt(mut attempt) = next.await.unwrap() else { panic!("known") };
    drained.join().unwrap().unwrap();
    send(&mut attempt, &content, 0, 1 << 20).await.unwrap();
    attempt.finish().await.unwrap();
    assert_eq!(read(&uploads, "a").await.unwrap(), content);
}

async fn what_is_not_as_declared_is_no_content(machine: Machine) {
    let uploads = machine.start().await;
    let content = content(1, 200);
    let upload = upload(&content, "a");
    let mut attempt = begun(&uploads, &upload, 0).await;
    let refused = attempt.write(1, Bytes::from_static(b"x")).await;
    assert!(matches!(refused, Err(UploadError::WrongOffset { offset: 1, expected: 0 })));
    send(&mut attempt, &content, 0, 100).await.unwrap();
    let refused = attempt.write(100, Bytes::from(vec![0; 101])).await;
    assert!(matches!(refused, Err(UploadError::TooLong(200))));
    let refused = attempt.finish().await;
    assert!(matches!(refused, Err(UploadError::TooShort { length: 100, declared: 200 })), "{refused:?}");
    assert_eq!(committed(&uploads, &upload).await, Some(100));

    let mut attempt = begun(&uploads, &upload, 100).await;
    attempt.write(100, Bytes::from(vec![0; 100])).await.unwrap();
    assert!(matches!(attempt.finish().await, Err(UploadError::WrongChecksum { .. })));
    assert_eq!(
        (committed(&uploads, &upload).await, machine.partials().await, machine.blobs().await),
        (None, 0, 0)
    );
    let uploads = machine.start().await;
    uploaded(&uploads, &upload, &content).await;
}

async fn content_that_is_known_gets_the_name_at_once_and_never_changes(machine: Machine) {
    let uploads = machine.start().await;
    let [old, new] = [content(1, 500), content(2, 500)];
    uploaded(&uploads, &upload(&old, "a"), &old).await;
    let kept = uploads.find(&Source::File("a".into())).await.unwrap();
    uploaded(&uploads, &upload(&new, "a"), &new).await;
    assert_eq!(read(&uploads, "a").await.unwrap(), new);
    assert_eq!(model::bytes(&uploads, kept).await, old);

    let again = upload(&old, "a");
    let progress = uploads.progress(&again).await.unwrap();
    assert_eq!(progress, Progress { committed: 500, complete: false });
    assert!(matches!(uploads.begin(again.clone(), 0).await.unwrap(), Begun::Known));
    assert!(uploads.progress(&again).await.unwrap().complete);
    assert_eq!(read(&uploads, "a").await.unwrap(), old);
    assert_eq!(machine.blobs().await, 2);
}

async fn an_upload_of_what_has_become_known_ends_without_a_trace(machine: Machine) {
    let uploads = machine.start().await;
    let content = content(1, 500);
    let [slow, quick] = ["slow", "quick"].map(|name| upload(&content, name));
    let mut attempt = begun(&uploads, &slow, 0).await;
    send(&mut attempt, &content, 0, 100).await.unwrap();
    attempt.pause().await.unwrap();
    uploaded(&uploads, &quick, &content).await;
    assert!(matches!(uploads.begin(slow.clone(), 100).await.unwrap(), Begun::Known));
    for name in ["slow", "quick"] {
        assert_eq!(read(&uploads, name).await.unwrap(), content);
    }
    while machine.partials().await > 0 {
        tokio::task::yield_now().await;
    }
}

async fn limits_are_kept_and_what_is_old_makes_room(mut machine: Machine) {
    let uploads = machine.start().await;
    let large = Upload { blob: Blob::new(blake3::hash(b""), (1 << 20) + 1), ..upload(b"", "a") };
    assert!(matches!(uploads.begin(large, 0).await, Err(UploadError::TooLarge { .. })));
    let content = content(1, 200);
    for n in 0..4 {
        let mut attempt = begun(&uploads, &upload(&content, &n.to_string()), 0).await;
        send(&mut attempt, &content, 0, 100).await.unwrap();
        attempt.pause().await.unwrap();
    }
    let fifth = upload(&content, "5");
    assert!(matches!(uploads.begin(fifth.clone(), 0).await, Err(UploadError::TooMany { limit: 4 })));
    machine.limits.kept = Duration::ZERO;
    let uploads = machine.start().await;
    assert_eq!(machine.partials().await, 0);
    uploaded(&uploads, &fifth, &content).await;
}

async fn an_upload_of_which_nothing_is_on_disk_takes_no_place(machine: Machine) {
    let uploads = machine.start().await;
    let content = content(1, 200);
    for n in 0..9 {
        begun(&uploads, &upload(&content, &n.to_string()), 0).await.pause().await.unwrap();
    }
    assert!(machine.partials().await <= LIMITS.partials);
}

async fn an_id_is_of_one_upload(machine: Machine) {
    let uploads = machine.start().await;
    let content = content(1, 200);
    let one = upload(&content, "a");
    let mut attempt = begun(&uploads, &one, 0).await;
    for other in [
        Upload { name: Some("b".into()), ..one.clone() },
        Upload { blob: upload(b"x", "a").blob, ..one.clone() },
    ] {
        assert!(matches!(uploads.begin(other.clone(), 0).await, Err(UploadError::IdInUse(_))));
        assert_eq!(committed(&uploads, &other).await, None);
    }
    send(&mut attempt, &content, 0, 200).await.unwrap();
    attempt.finish().await.unwrap();
}

/// The device that is always full takes the place of a disk that is.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_said_and_when_there_is_room_it_goes_on() {
    let machine = Machine::new();
    let uploads = machine.start().await;
    let content = content(1, 200);
    let upload = upload(&content, "a");
    std::os::unix::fs::symlink("/dev/full", machine.partial(&upload)).unwrap();
    let mut attempt = begun(&uploads, &upload, 0).await;
    send(&mut attempt, &content, 0, 200).await.unwrap();
    assert!(matches!(attempt.finish().await, Err(UploadError::DiskFull)));
    fs::remove_file(machine.partial(&upload)).unwrap();
    uploaded(&uploads, &upload, &content).await;
}

#[tokio::test]
async fn after_a_failed_fsync_the_file_falls_back_to_what_was_durable() {
    let machine = Machine::new();
    let uploads = machine.start().await;
    let content = content(1, 500);
    let upload = upload(&content, "a");
    let mut attempt = begun(&uploads, &upload, 0).await;
    send(&mut attempt, &content, 0, 100).await.unwrap();
    attempt.pause().await.unwrap();

    let failing = machine.files.path().join("fail-sync");
    fs::write(&failing, "").unwrap();
    for end in [400, 500] {
        let mut attempt = begun(&uploads, &upload, 100).await;
        send(&mut attempt, &content, 100, end).await.unwrap();
        let ended = if end == 500 { attempt.finish().await } else { attempt.pause().await };
        assert!(matches!(ended, Err(UploadError::Disk(_))), "{ended:?}");
        assert_eq!((committed(&uploads, &upload).await, machine.blobs().await), (Some(100), 0));
        assert_eq!(fs::metadata(machine.partial(&upload)).unwrap().len(), 100);
    }
    fs::remove_file(failing).unwrap();
    let mut attempt = begun(&uploads, &upload, 100).await;
    send(&mut attempt, &content, 100, 500).await.unwrap();
    attempt.finish().await.unwrap();
    assert_eq!(read(&uploads, "a").await.unwrap(), content);
}

/// Each call to the disk fails in turn, and then the power does. Whatever was said to
/// be committed is there, and what could be read stays.
#[tokio::test]
async fn whichever_call_fails_what_was_committed_stays_and_what_was_shown_too() {
    let content = content(1, 500);
    for (calls, asks) in (0..).flat_map(|calls| [(calls, true), (calls, false)]) {
        let machine = Machine::new();
        let uploads = machine.start().await;
        let failing = machine.files.path().join("fail-sync");
        fs::write(&failing, calls.to_string()).unwrap();
        let upload = upload(&content, "a");
        let attempted = attempt(&uploads, &upload, &content).await;
        if fs::remove_file(&failing).is_ok() {
            attempted.unwrap();
            assert!(calls > 6, "only {calls} calls");
            break;
        }
        let (mut known, mut complete, mut shown) = (0, attempted.is_ok(), attempted.is_ok());
        if asks {
            match uploads.progress(&upload).await {
                Ok(progress) => (known, complete) = (progress.committed, progress.complete),
                Err(error) => assert!(matches!(error, UploadError::NotFound(..)), "{calls}: {error}"),
            }
            shown = uploads.open_blob(&upload.blob).is_ok();
        }
        drop(uploads);
        machine.lose_names(&upload);
        let uploads = machine.start().await;
        match uploads.progress(&upload).await {
            Ok(now) => assert!(now.committed >= known && now.complete >= complete, "{calls}: {now:?}"),
            Err(error) => assert!(known == 0 && !complete, "{calls}: {error}"),
        }
        assert!(uploads.open_blob(&upload.blob).is_ok() >= shown, "{calls}: it could be read");
        attempt(&uploads, &upload, &content).await.unwrap();
        assert_eq!(read(&uploads, "a").await.unwrap(), content);
    }
}

/// In two parts, from where it was.
async fn attempt(uploads: &Uploads, upload: &Upload, content: &[u8]) -> Result<(), UploadError> {
    for end in [200, content.len()] {
        let from = match uploads.progress(upload).await {
            Err(UploadError::NotFound(..)) => 0,
            progress => progress?.committed,
        };
        let mut attempt = match uploads.begin(upload.clone(), from).await? {
            Begun::Attempt(attempt) => attempt,
            Begun::Known => return Ok(()),
        };
        let from = from as usize;
        send(&mut attempt, content, from, end.max(from)).await?;
        if end < content.len() {
            attempt.pause().await?
        } else {
            attempt.finish().await?
        };
    }
    Ok(())
}

#[tokio::test]
async fn a_failure_takes_nothing_from_another_upload_of_the_same_content() {
    let content = content(1, 500);
    for calls in 0.. {
        let machine = Machine::new();
        let uploads = machine.start().await;
        let [slow, quick] = ["slow", "quick"].map(|name| upload(&content, name));
        let mut attempt = begun(&uploads, &slow, 0).await;
        send(&mut attempt, &content, 0, 500).await.unwrap();
        uploaded(&uploads, &quick, &content).await;
        fs::write(machine.files.path().join("fail-sync"), calls.to_string()).unwrap();
        let ended = attempt.finish().await;
        assert_eq!(read(&uploads, "quick").await.unwrap(), content, "{calls}");
        if ended.is_ok() {
            // The sync, the rename, and the syncs of both directories.
            assert!(calls >= 4, "only {calls} calls");
            break;
        }
    }
}

#[tokio::test]
async fn content_is_not_there_before_its_name_is_durable() {
    let machine = Machine::new();
    let uploads = machine.start().await;
    let content = content(1, 500);
    let upload = Upload { name: None, ..upload(&content, "a") };
    let failing = machine.files.path().join("fail-sync");
    let mut attempt = begun(&uploads, &upload, 0).await;
    send(&mut attempt, &content, 0, 500).await.unwrap();
    // All but the rename and what comes before it.
    fs::write(&failing, "2").unwrap();
    assert!(matches!(attempt.finish().await, Err(UploadError::Disk(_))));
    assert_eq!(machine.blobs().await, 1);
    fs::write(&failing, "always").unwrap();
    assert!(matches!(uploads.progress(&upload).await, Err(UploadError::Disk(_))));
    assert!(matches!(uploads.open_blob(&upload.blob), Err(UploadError::Disk(_))));
    assert!(matches!(uploads.begin(upload.clone(), 0).await, Err(UploadError::Disk(_))));
    fs::remove_file(&failing).unwrap();
    assert!(uploads.progress(&upload).await.unwrap().complete);
    let noted = fs::read_to_string(machine.files.path().join("blobs.names")).unwrap();
    assert!(noted.contains(&upload.blob.hash().to_string()), "{noted}");
}

#[tokio::test]
async fn an_upload_of_known_content_leaves_another_one_with_its_id_alone() {
    let machine = Machine::new();
    let uploads = machine.start().await;
    let [known, other] = [content(1, 500), content(2, 500)];
    uploaded(&uploads, &upload(&known, "known"), &known).await;
    let going_on = upload(&other, "other");
    let mut attempt = begun(&uploads, &going_on, 0).await;
    send(&mut attempt, &other, 0, 100).await.unwrap();
    attempt.pause().await.unwrap();
    let mut attempt = begun(&uploads, &going_on, 100).await;
    let same_id = Upload { id: going_on.id, ..upload(&known, "again") };
    assert!(matches!(uploads.begin(same_id, 0).await.unwrap(), Begun::Known));
    send(&mut attempt, &other, 100, 500).await.unwrap();
    attempt.finish().await.unwrap();
    assert_eq!(read(&uploads, "other").await.unwrap(), other);
}

async fn a_checkpoint_whose_answer_is_lost_takes_nothing_back(mut machine: Machine) {
    let store = Failing::new(machine.store.clone());
    machine.store = store.clone();
    let uploads = machine.start().await;
    let content = content(1, 500);
    let upload = upload(&content, "a");
    let mut attempt = begun(&uploads, &upload, 0).await;
    send(&mut attempt, &content, 0, 100).await.unwrap();
    attempt.pause().await.unwrap();
    let mut attempt = begun(&uploads, &upload, 100).await;
    store.now(How::BrokenButMade);
    send(&mut attempt, &content, 100, 200).await.unwrap();
    assert!(attempt.pause().await.is_err());
    store.now(How::Works);
    // Also when it starts again now.
    assert_eq!(committed(&machine.start().await, &upload).await, Some(200));
    let mut attempt = begun(&uploads, &upload, 200).await;
    send(&mut attempt, &content, 200, 500).await.unwrap();
    attempt.finish().await.unwrap();
    assert_eq!(read(&uploads, "a").await.unwrap(), content);
}

#[tokio::test]
async fn bytes_that_are_gone_from_the_disk_are_asked_for_again() {
    let machine = Machine::new();
    let uploads = machine.start().await;
    let content = content(1, 500);
    let upload = upload(&content, "a");
    let mut attempt = begun(&uploads, &upload, 0).await;
    send(&mut attempt, &content, 0, 100).await.unwrap();
    attempt.pause().await.unwrap();
    for restart in [false, true] {
        fs::File::options().write(true).open(machine.partial(&upload)).unwrap().set_len(50).unwrap();
        let uploads = if restart { machine.start().await } else { uploads.clone() };
        if restart {
            assert_eq!(committed(&uploads, &upload).await, None);
        }
        let begun_at = uploads.begin(upload.clone(), 100).await;
        assert!(matches!(begun_at, Err(UploadError::NotCommittedSize { committed: 0, .. })), "{begun_at:?}");
        let mut attempt = begun(&uploads, &upload, 0).await;
        send(&mut attempt, &content, 0, 100).await.unwrap();
        attempt.pause().await.unwrap();
    }
}

#[tokio::test]
async fn files_that_nobody_knows_are_removed_at_the_start() {
    let machine = Machine::new();
    drop(machine.start().await);
    let partial = machine.files.path().join("partial");
    fs::write(partial.join(Uuid::new_v4().to_string()), "x").unwrap();
    fs::write(partial.join("something"), "x").unwrap();
    machine.start().await;
    assert_eq!(machine.partials().await, 0);
}

macro_rules! on_a_disk_and_in_a_store {
    ($($test:ident)*) => {
        $(mod $test {
            #[tokio::test]
            async fn on_a_disk() {
                super::$test(super::Machine::new()).await;
            }

            #[tokio::test]
            async fn in_a_store() {
                super::$test(super::Machine::shared()).await;
            }
        })*
    };
}

on_a_disk_and_in_a_store! {
    an_upload_becomes_content_with_a_name
    what_was_not_finished_is_no_content_and_goes_on_where_it_was
    a_new_attempt_takes_over_from_the_one_before
    what_is_not_as_declared_is_no_content
    content_that_is_known_gets_the_name_at_once_and_never_changes
    an_upload_of_what_has_become_known_ends_without_a_trace
    limits_are_kept_and_what_is_old_makes_room
    an_upload_of_which_nothing_is_on_disk_takes_no_place
    an_id_is_of_one_upload
    a_checkpoint_whose_answer_is_lost_takes_nothing_back
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Begin),
        6 => (1usize..150, prop::bool::weighted(0.05)).prop_map(|(length, lie)| Op::Write { length, lie }),
        1 => Just(Op::Cut),
        1 => Just(Op::HalfClose),
        2 => Just(Op::Finish),
        2 => (1usize..150).prop_map(|length| Op::Zombie { length }),
        1 => (0usize..200, any::<u8>()).prop_map(|(tail, garbage)| Op::Crash { tail, garbage }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_content_is_whole_and_nothing_durable_is_lost(
        size in 0usize..600,
        ops in prop::collection::vec(op(), 1..40),
    ) {
        model::run(Machine::new(), size, &ops);
    }

    /// Where a crash is another server that takes over, while the one before still writes.
    #[test]
    fn whichever_server_goes_on_content_is_whole_and_nothing_durable_is_lost(
        size in 0usize..600,
        ops in prop::collection::vec(op(), 1..40),
    ) {
        model::run(Machine::shared(), size, &ops);
    }
}

//! What holds where several servers have the same uploads.

use std::io::{self, Read as _, Seek as _, SeekFrom};

use super::{
    Begun, Medium, UploadError, Uploads,
    model::{Machine, bytes, content, read, upload},
    pieces::Pieces,
    tests::{begun, send, uploaded},
};
use crate::{platform, resources::Source, store::StoreError};

fn pieces(uploads: &Uploads) -> &Pieces {
    match &uploads.0.medium {
        Medium::Store(pieces) => pieces,
        Medium::Disk(_) => panic!("a disk"),
    }
}

/// At each size around whole pieces, wherever the first server stopped.
#[tokio::test]
async fn an_upload_goes_on_at_another_server_and_is_read_at_a_third_from_any_offset() {
    let machine = Machine::shared();
    for size in [1, 99, 100, 101, 250, 400] {
        for cut in [0, 1, 99, 100, 150, 200].into_iter().filter(|cut| *cut <= size) {
            let [one, two, three] = [machine.start().await, machine.start().await, machine.start().await];
            let content = content(cut as u8, size);
            let upload = upload(&content, "a");
            let mut attempt = begun(&one, &upload, 0).await;
            send(&mut attempt, &content, 0, cut).await.unwrap();
            assert_eq!(attempt.pause().await.unwrap(), cut as u64);
            let mut attempt = begun(&two, &upload, cut as u64).await;
            send(&mut attempt, &content, cut, size).await.unwrap();
            attempt.finish().await.unwrap();
            assert!(one.progress(&upload).await.unwrap().complete);
            let blob = three.find(&Source::File("a".into())).await.unwrap();
            platform::blocking(move || {
                let mut open = three.open_blob(&blob).unwrap();
                for offset in 0..size {
                    let mut bytes = Vec::new();
                    open.seek(SeekFrom::Start(offset as u64)).unwrap();
                    open.read_to_end(&mut bytes).unwrap();
                    assert_eq!(bytes, content[offset..], "{size} bytes, {cut} of them first, from {offset}");
                }
            })
            .await
            .unwrap();
            two.remove("a", None).await.unwrap();
        }
    }
    for prefix in ["upload/", "content/", "rest/", "file/"] {
        assert_eq!(machine.store.list(prefix, "", 9).await.unwrap(), []);
    }
    assert_eq!(machine.store.streams("", "", 9).await.unwrap(), []);
}

#[tokio::test]
async fn the_newest_attempt_of_all_servers_writes_and_no_other() {
    let machine = Machine::shared();
    let [one, two] = [machine.start().await, machine.start().await];
    let content = content(1, 500);
    let upload = upload(&content, "a");
    let mut first = begun(&one, &upload, 0).await;
    send(&mut first, &content, 0, 300).await.unwrap();
    assert_eq!(first.pause().await.unwrap(), 300);
    let mut first = begun(&one, &upload, 300).await;
    send(&mut first, &content, 300, 350).await.unwrap();
    // The first one does not know of it, and writes what it has.
    let mut second = begun(&two, &upload, 300).await;
    assert!(matches!(first.pause().await, Err(UploadError::Superseded)));
    send(&mut second, &content, 300, 500).await.unwrap();
    second.finish().await.unwrap();
    assert_eq!(read(&one, "a").await.unwrap(), content);
}

#[tokio::test]
async fn of_two_uploads_of_the_same_content_both_names_stay() {
    let machine = Machine::shared();
    let [one, two] = [machine.start().await, machine.start().await];
    let content = content(1, 250);
    let [a, b] = ["a", "b"].map(|name| upload(&content, name));
    let [mut first, mut second] = [begun(&one, &a, 0).await, begun(&two, &b, 0).await];
    send(&mut first, &content, 0, 250).await.unwrap();
    send(&mut second, &content, 0, 250).await.unwrap();
    first.finish().await.unwrap();
    second.finish().await.unwrap();
    one.remove("a", None).await.unwrap();
    assert_eq!(read(&two, "b").await.unwrap(), content);
    assert_eq!(machine.store.streams("", "", 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn content_that_gets_a_name_while_it_is_removed_stays() {
    let machine = Machine::shared();
    let [one, two] = [machine.start().await, machine.start().await];
    let content = content(1, 250);
    let [a, b] = ["a", "b"].map(|name| upload(&content, name));
    uploaded(&one, &a, &content).await;
    let found = pieces(&one).find(&a.blob).await.unwrap().unwrap();
    // Now the first server looks the names up, and then the second one gives one.
    assert!(matches!(two.begin(b.clone(), 0).await, Ok(Begun::Known)));
    assert!(!pieces(&one).remove_content(&a.blob, found).await.unwrap());
    assert_eq!(bytes(&two, b.blob).await, content);
}

#[tokio::test]
async fn a_reader_learns_that_its_content_was_removed() {
    let machine = Machine::shared();
    let uploads = machine.start().await;
    let content = content(1, 900);
    let upload = upload(&content, "a");
    uploaded(&uploads, &upload, &content).await;
    let opened = uploads.clone();
    let mut open = platform::blocking(move || opened.open_blob(&upload.blob).unwrap()).await.unwrap();
    uploads.remove("a", None).await.unwrap();
    let read = platform::blocking(move || open.read_to_end(&mut Vec::new())).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::NotFound);
}

/// A caller tries again after one, and not after the other.
#[test]
fn a_store_that_does_not_answer_is_no_broken_disk() {
    let broken = UploadError::from(StoreError::Broken("it is away".to_owned()));
    let read: io::Error = broken.into();
    assert!(matches!(UploadError::from(read), UploadError::Store(StoreError::Broken(_))));
    let read = io::Error::other("it is on fire");
    assert!(matches!(UploadError::from(read), UploadError::Disk(_)));
}

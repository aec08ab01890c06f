//! What the server keeps for its callers: how it ends, and how much of it there is.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use server::config::{Config, Retention, UploadLimits};
use shared_document::Document;
use shared_proto::{
    bytestream::{ReadRequest, WriteRequest, byte_stream_client::ByteStreamClient},
    fourmodes::v1::{
        DeleteDocumentRequest, DeleteFileRequest, DeleteRoomRequest, DocumentChanges, GetStatusRequest,
        ListFilesRequest, OpenDocument, SyncDocumentRequest, SyncDocumentResponse, TailLogRequest,
        sync_document_request::Action,
    },
};
use stack::{Limits, Settings};
use test_support::{
    Member, Server, bidi_streaming, channel, missing_resource, reason, run, server_streaming, unary, until,
    within,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::server::binary;

async fn upload(address: SocketAddr, name: &str, content: impl Into<Bytes>) -> Result<String, Status> {
    let data = content.into();
    let blob = format!("blobs/{}/{}", blake3::hash(&data), data.len());
    let name = if name.is_empty() { String::new() } else { format!("/{name}") };
    let resource_name = format!("uploads/{}/{blob}{name}", uuid::Uuid::new_v4());
    let whole = WriteRequest { resource_name, data, finish_write: true, ..Default::default() };
    within(ByteStreamClient::new(channel(address)).write(tokio_stream::once(whole))).await.map(|_| blob)
}

async fn read(address: SocketAddr, name: &str) -> Result<usize, Status> {
    let request = ReadRequest { resource_name: name.to_owned(), ..Default::default() };
    let mut chunks = within(ByteStreamClient::new(channel(address)).read(request)).await?.into_inner();
    let mut length = 0;
    while let Some(chunk) = within(chunks.message()).await? {
        length += chunk.data.len();
    }
    Ok(length)
}

async fn delete(address: SocketAddr, name: &str, resource_name: &str) -> Result<(), Status> {
    let request = DeleteFileRequest { name: name.to_owned(), resource_name: resource_name.to_owned() };
    within(unary(address).delete_file(request)).await.map(drop)
}

async fn delete_room(address: SocketAddr, room: &str) -> Result<(), Status> {
    within(unary(address).delete_room(DeleteRoomRequest { room: room.to_owned() })).await.map(drop)
}

async fn delete_document(address: SocketAddr, document: &str) -> Result<(), Status> {
    let request = DeleteDocumentRequest { document: document.to_owned() };
    within(unary(address).delete_document(request)).await.map(drop)
}

/// How many there are of a kind, and how many bytes they take.
async fn kept(address: SocketAddr, kind: &str) -> (u64, u64) {
    let status = unary(address).get_status(GetStatusRequest {}).await.unwrap().into_inner();
    let usage = status.state.into_iter().find(|usage| usage.kind == kind).unwrap();
    (usage.count, usage.bytes)
}

async fn names(address: SocketAddr) -> Vec<String> {
    let files = unary(address).list_files(ListFilesRequest::default()).await.unwrap().into_inner().files;
    files.into_iter().map(|file| file.name).collect()
}

/// A document with a text in it, open until both are dropped.
async fn edit(
    address: SocketAddr,
    name: &str,
) -> Result<(mpsc::Sender<SyncDocumentRequest>, Streaming<SyncDocumentResponse>), Status> {
    let mut document = Document::genesis().unwrap();
    let genesis = document.heads();
    let heads = document.edit(&genesis, "a text\n").unwrap();
    let changes = document.changes_since(&genesis, usize::MAX).0;
    let changes = changes.iter().map(|change| change.raw_bytes().to_vec()).collect();
    let open = Action::Open(OpenDocument { document: name.to_owned(), heads: Vec::new() });
    let actions = [open, Action::Changes(DocumentChanges { changes })];
    let requests = actions.map(|action| SyncDocumentRequest { action: Some(action) });
    let (sender, receiver) = mpsc::channel(2);
    for request in requests {
        sender.send(request).await.unwrap();
    }
    let requests = ReceiverStream::new(receiver);
    let mut responses = bidi_streaming(address).sync_document(requests).await?.into_inner();
    // The server has it, perhaps with what was there before.
    while !within(responses.message()).await?.unwrap().heads.contains(&heads[0].0.to_vec()) {}
    Ok((sender, responses))
}

fn limit(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let limit = details.error_info().and_then(|info| info.metadata.get("limit").cloned()).unwrap_or_default();
    (status.code(), reason(status), limit)
}

fn reached(name: &str) -> (Code, String, String) {
    (Code::ResourceExhausted, "LIMIT_REACHED".to_owned(), name.to_owned())
}

#[test]
fn text_goes_with_its_age_from_a_quiet_room_and_the_room_with_its_last_member() {
    run(async {
        let retention = Retention { age: Duration::from_secs(1), ..Retention::default() };
        let address = Server::with(Config { retention, ..Config::default() }).await.address;
        let ana = Member::joined(address, "lobby", "ana").await;
        ana.post("not for ever").await;
        until(async || kept(address, "rooms").await == (1, 0)).await;
        drop(ana);
        until(async || kept(address, "rooms").await == (0, 0)).await;
        // What comes later is behind what was there: nobody takes it for the same.
        let mut ben = Member::silent(channel(address)).await;
        ben.join("lobby", "ben").await;
        assert_eq!(ben.hear().await.unwrap(), "4 ben joined ben");
    });
}

#[test]
fn a_file_is_deleted_with_its_content_when_no_other_name_stands_for_it() {
    run(async {
        let address = Server::start().await.address;
        let blob = upload(address, "one", "content").await.unwrap();
        upload(address, "two", "content").await.unwrap();
        upload(address, "two\u{e9}", "other content").await.unwrap();
        assert_eq!(kept(address, "files").await, (3, 0));
        assert_eq!(kept(address, "content").await, (2, 20));
        for _ in 0..2 {
            delete(address, "one", &blob).await.unwrap();
            assert_eq!(names(address).await, ["two", "two\u{e9}"]);
            assert_eq!(read(address, &blob).await.unwrap(), 7);
        }
        // The content of a name may not be taken away from it.
        let refused = delete(address, "", &blob).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "IN_USE"));
        // Of a request that comes again there is nothing left to do.
        upload(address, "two", "newer content").await.unwrap();
        delete(address, "two", &blob).await.unwrap();
        assert_eq!(read(address, "files/two").await.unwrap(), 13);
        delete(address, "", &blob).await.unwrap();
        assert_eq!(missing_resource(&read(address, &blob).await.unwrap_err()).0, "content");
        delete(address, "two", "").await.unwrap();
        delete(address, "two\u{e9}", "").await.unwrap();
        assert_eq!((kept(address, "files").await, kept(address, "content").await), ((0, 0), (0, 0)));
        // It may come back.
        upload(address, "one", "content").await.unwrap();
        assert_eq!(read(address, "files/one").await.unwrap(), 7);
        for (name, resource_name) in [("", ""), ("../x", ""), ("one", "blobs/1/2")] {
            let refused = delete(address, name, resource_name).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{name} {resource_name}");
        }
    });
}

#[test]
fn rooms_and_documents_are_deleted_when_nobody_is_there() {
    run(async {
        let address = Server::start().await.address;
        let mut ana = Member::joined(address, "lobby", "ana").await;
        let document = edit(address, "minutes").await.unwrap();
        for refused in [delete_room(address, "lobby").await, delete_document(address, "minutes").await] {
            let refused = refused.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "IN_USE"));
        }
        ana.half_close();
        while ana.hear().await.is_some() {}
        drop(document);
        until(async || delete_document(address, "minutes").await.is_ok()).await;
        for _ in 0..2 {
            delete_room(address, "lobby").await.unwrap();
            delete_document(address, "minutes").await.unwrap();
            assert_eq!((kept(address, "rooms").await, kept(address, "documents").await), ((0, 0), (0, 0)));
        }
        drop(edit(address, "minutes").await.unwrap());
    });
}

#[test]
fn what_was_deleted_stays_away_after_the_server_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = binary(&["all"]).env("FOURMODES_DATA_DIR", directory.path()).serve();
    run(async {
        let address = server.address;
        upload(address, "file", "content").await.unwrap();
        drop(edit(address, "minutes").await.unwrap());
        let mut ana = Member::joined(address, "lobby", "ana").await;
        ana.half_close();
        while ana.hear().await.is_some() {}
        delete(address, "file", "").await.unwrap();
        delete_room(address, "lobby").await.unwrap();
        until(async || delete_document(address, "minutes").await.is_ok()).await;
        server.kill();
        server.restart();
        for kind in ["files", "content", "documents", "rooms"] {
            assert_eq!(kept(server.address, kind).await, (0, 0), "{kind}");
        }
    });
}

#[test]
fn over_a_quota_nothing_new_is_kept_and_the_limit_is_named() {
    run(async {
        let uploads = UploadLimits { files: 2, content: 20, ..UploadLimits::default() };
        let config = Config { uploads, rooms: 1, documents: 1, ..Config::default() };
        let address = Server::with(config).await.address;
        upload(address, "one", "content").await.unwrap();
        assert_eq!(
            limit(&upload(address, "large", "x".repeat(14)).await.unwrap_err()),
            reached("max_content")
        );
        upload(address, "two", "content").await.unwrap();
        for content in ["content", "other"] {
            assert_eq!(limit(&upload(address, "three", content).await.unwrap_err()), reached("max_files"));
        }
        // Content without a name counts, too.
        upload(address, "", "other").await.unwrap();
        assert_eq!(limit(&upload(address, "", "more").await.unwrap_err()), reached("max_files"));
        delete(address, "two", "").await.unwrap();
        upload(address, "three", "content").await.unwrap();

        let ana = Member::joined(address, "lobby", "ana").await;
        let mut ben = Member::silent(channel(address)).await;
        ben.join("attic", "ben").await;
        assert_eq!(limit(&ben.failure().await), reached("max_rooms"));
        drop(ana);
        until(async || delete_room(address, "lobby").await.is_ok()).await;
        Member::joined(address, "attic", "ben").await;

        drop(edit(address, "minutes").await.unwrap());
        assert_eq!(limit(&edit(address, "other").await.unwrap_err()), reached("max_documents"));
        drop(edit(address, "minutes").await.unwrap());
        until(async || delete_document(address, "minutes").await.is_ok()).await;
        edit(address, "other").await.unwrap();
    });
}

#[test]
fn files_that_are_open_for_calls_are_bounded() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("log"), "a line\n").unwrap();
        let log_root = Some(directory.path().to_owned());
        let address = Server::with(Config { open_files: 1, log_root, ..Config::default() }).await.address;
        let blob = upload(address, "", "content").await.unwrap();
        let tail = || {
            let request = TailLogRequest { file: "log".to_owned(), start: None };
            async move { within(server_streaming(address).tail_log(request)).await }
        };
        let followed = tail().await.unwrap();
        for refused in [
            tail().await.map(drop),
            read(address, &blob).await.map(drop),
            upload(address, "", "more").await.map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(limit(&refused), reached("max_open_files"), "{refused}");
            assert!(refused.get_error_details().retry_info().is_some());
        }
        drop(followed);
        until(async || read(address, &blob).await.is_ok()).await;
        upload(address, "", "more").await.unwrap();
        tail().await.unwrap();
    });
}

#[test]
fn a_chunk_that_is_longer_than_what_may_be_queued_stalls_no_upload() {
    run(async {
        let limits = Limits { message: 40 << 20, ..Limits::default() };
        let address = Server::with(Settings { limits, ..Settings::default() }.into()).await.address;
        let blob = upload(address, "", vec![7; 17 << 20]).await.unwrap();
        assert_eq!(read(address, &blob).await.unwrap(), 17 << 20);
        upload(address, "", "content").await.unwrap();
    });
}

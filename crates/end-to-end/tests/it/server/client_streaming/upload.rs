//! Uploads and downloads: the rules, and what is there after a side or the
//! network between them is gone.

use std::{
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use grpc_wire::Mode;
use server::config::{Config, UploadLimits};
use shared_proto::{
    bytestream::{
        QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, WriteRequest,
        byte_stream_client::ByteStreamClient,
    },
    fourmodes::v1::{File, ListFilesRequest},
};
use test_support::{
    Proxy, Server, ServerProgram, Trouble, bad_fields, channel, open_calls, reason, run, unary, until, within,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::server::binary;

/// Bytes, and an upload of them under a name.
#[derive(Clone)]
struct Content {
    bytes: Bytes,
    upload: String,
    blob: String,
}

impl Content {
    /// No two are alike.
    fn new(size: usize, name: &str) -> Self {
        static SEED: AtomicU64 = AtomicU64::new(0);
        let mut random = blake3::Hasher::new();
        random.update(&SEED.fetch_add(1, Relaxed).to_le_bytes());
        let mut bytes = vec![0; size];
        random.finalize_xof().fill(&mut bytes);
        let blob = format!("blobs/{}/{size}", blake3::hash(&bytes));
        let upload = format!("uploads/{}/{blob}/{name}", uuid());
        Self { bytes: bytes.into(), upload, blob }
    }

    fn size(&self) -> i64 {
        self.bytes.len() as i64
    }

    /// The requests of a whole upload from an offset on.
    fn requests(&self, from: i64, chunk: usize) -> Vec<WriteRequest> {
        let from = from as usize;
        let mut requests: Vec<_> = (from..self.bytes.len())
            .step_by(chunk)
            .map(|at| request("", at, self.bytes.slice(at..self.bytes.len().min(at + chunk))))
            .collect();
        if requests.is_empty() {
            requests.push(request("", from, Bytes::new()));
        }
        requests[0].resource_name.clone_from(&self.upload);
        requests.last_mut().unwrap().finish_write = true;
        requests
    }
}

fn uuid() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("00000000-0000-4000-8000-{:012x}", NUMBER.fetch_add(1, Relaxed))
}

fn request(name: &str, offset: usize, data: impl Into<Bytes>) -> WriteRequest {
    WriteRequest {
        resource_name: name.to_owned(),
        write_offset: offset as i64,
        finish_write: false,
        data: data.into(),
    }
}

fn finish(request: WriteRequest) -> WriteRequest {
    WriteRequest { finish_write: true, ..request }
}

fn byte_stream(address: SocketAddr) -> ByteStreamClient<Channel> {
    ByteStreamClient::new(channel(address))
}

async fn write(address: SocketAddr, requests: Vec<WriteRequest>) -> Result<i64, Status> {
    send(address, tokio_stream::iter(requests)).await
}

async fn send(
    address: SocketAddr,
    requests: impl Stream<Item = WriteRequest> + Send + 'static,
) -> Result<i64, Status> {
    let response = within(byte_stream(address).write(requests)).await;
    response.map(|response| response.into_inner().committed_size)
}

async fn query(address: SocketAddr, upload: &str) -> Result<QueryWriteStatusResponse, Status> {
    let request = QueryWriteStatusRequest { resource_name: upload.to_owned() };
    within(byte_stream(address).query_write_status(request)).await.map(tonic::Response::into_inner)
}

/// What is committed of an upload that is not finished.
async fn committed(address: SocketAddr, content: &Content) -> i64 {
    match query(address, &content.upload).await {
        Ok(status) => {
            assert!(!status.complete, "{status:?}");
            status.committed_size
        }
        Err(status) => {
            assert_eq!(status.code(), Code::NotFound, "{status}");
            0
        }
    }
}

/// As a client does it: again and again from where the server is.
async fn resumed(address: SocketAddr, content: &Content, chunk: usize) {
    for _ in 0..3 {
        let from = committed(address, content).await;
        match write(address, content.requests(from, chunk)).await {
            Ok(committed) => return assert_eq!(committed, content.size()),
            // The attempt before was still at it.
            Err(status) => assert_eq!(reason(&status), "OFFSET_NOT_COMMITTED_SIZE", "{status}"),
        }
    }
    panic!("the offset does not hold still");
}

async fn read_from(address: SocketAddr, name: &str, offset: i64, limit: i64) -> Result<Vec<u8>, Status> {
    let request = ReadRequest { resource_name: name.to_owned(), read_offset: offset, read_limit: limit };
    let mut chunks = within(byte_stream(address).read(request)).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = within(chunks.message()).await? {
        assert!(chunk.data.len() <= 256 << 10);
        bytes.extend_from_slice(&chunk.data);
    }
    Ok(bytes)
}

async fn read(address: SocketAddr, name: &str) -> Result<Vec<u8>, Status> {
    read_from(address, name, 0, 0).await
}

async fn files(address: SocketAddr) -> Vec<File> {
    let list = unary(address).list_files(ListFilesRequest { page_size: 1000, ..Default::default() }).await;
    list.unwrap().into_inner().files
}

/// There is no content, under whatever name.
async fn assert_no_file(address: SocketAddr, content: &Content, name: &str) {
    for name in [&content.blob, name] {
        let refused = read(address, name).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
    }
}

#[test]
fn what_was_uploaded_is_listed_and_read() {
    run(async {
        let address = Server::start().await.address;
        let content = Content::new(700_000, "a file.bin");
        assert_eq!(write(address, content.requests(0, 100_000)).await.unwrap(), content.size());
        let status = query(address, &content.upload).await.unwrap();
        assert_eq!(status, QueryWriteStatusResponse { committed_size: content.size(), complete: true });
        for name in ["files/a file.bin", &content.blob] {
            assert_eq!(read(address, name).await.unwrap(), content.bytes, "{name}");
        }
        for (offset, limit, expected) in [
            (0, 10, 0..10),
            (699_990, 0, 699_990..700_000),
            (699_990, 99, 699_990..700_000),
            (300_000, 300_000, 300_000..600_000),
            (700_000, 0, 0..0),
        ] {
            let read = read_from(address, &content.blob, offset, limit).await.unwrap();
            assert_eq!(read, content.bytes[expected], "{offset} {limit}");
        }
        let request = ReadRequest { resource_name: "files/a file.bin".to_owned(), ..Default::default() };
        let response = byte_stream(address).read(request).await.unwrap();
        assert_eq!(response.metadata().get("resource-name").unwrap(), content.blob.as_str());

        let [file] = files(address).await.try_into().unwrap();
        assert_eq!((file.name.as_str(), file.resource_name), ("a file.bin", content.blob.clone()));
        assert_eq!((file.size_bytes, file.blake3.as_str()), (700_000, &content.blob[6..70]));
        assert!(file.commit_time.unwrap().seconds > 1_600_000_000);
    });
}

#[test]
fn content_may_be_empty_have_no_name_and_come_in_the_largest_messages() {
    run(async {
        let address = Server::start().await.address;
        let empty = Content::new(0, "empty");
        assert_eq!(write(address, empty.requests(0, 1)).await.unwrap(), 0);
        assert_eq!(read(address, "files/empty").await.unwrap(), b"");
        let mut content = Content::new(9 << 20, "");
        content.upload.pop();
        assert_eq!(write(address, content.requests(0, (4 << 20) - 1024)).await.unwrap(), content.size());
        assert_eq!(read(address, &content.blob).await.unwrap(), content.bytes);
        assert!(query(address, &content.upload).await.unwrap().complete);
        assert_eq!(files(address).await.len(), 1);
    });
}

/// The first half of 100 bytes.
fn begin(content: &Content) -> WriteRequest {
    request(&content.upload, 0, content.bytes.slice(0..50))
}

#[test]
fn what_breaks_a_rule_is_refused_and_nothing_comes_of_it() {
    run(async {
        let address = Server::start().await.address;
        let content = Content::new(100, "a");
        let name = content.upload.as_str();
        let part = |range: std::ops::Range<usize>| content.bytes.slice(range);
        // Each with an upload of its own: what arrived before is kept.
        let field = async |wrong: fn(&Content) -> Vec<WriteRequest>, field: &str| {
            let content = Content::new(100, "a");
            let refused = write(address, wrong(&content)).await.unwrap_err();
            assert_eq!(bad_fields(&refused), [field], "{refused}");
            assert_no_file(address, &content, "files/a").await;
        };
        field(|_| vec![request("", 0, "x")], "resource_name").await;
        field(|content| vec![request(&content.blob, 0, "x")], "resource_name").await;
        field(|content| vec![begin(content), request(&content.blob, 50, "x")], "resource_name").await;
        field(
            |content| vec![begin(content), request(&Content::new(100, "a").upload, 50, "x")],
            "resource_name",
        )
        .await;
        field(|content| vec![WriteRequest { write_offset: -1, ..begin(content) }], "write_offset").await;
        field(|content| vec![begin(content), request("", 0, "x")], "write_offset").await;
        field(|content| vec![begin(content), request("", 49, "x")], "write_offset").await;
        field(|content| vec![begin(content), request("", 51, "x")], "write_offset").await;
        field(|content| vec![request(&content.upload, 0, vec![0; 101])], "data").await;
        field(|content| vec![begin(content), request("", 50, vec![0; 51])], "data").await;
        field(|content| vec![finish(begin(content))], "finish_write").await;
        assert_eq!(write(address, vec![request(name, 0, part(0..99))]).await.unwrap(), 99);

        let out_of_turn = async |requests: Vec<WriteRequest>, expected: &str| {
            let refused = write(address, requests).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            assert_eq!(reason(&refused), expected);
            refused
        };
        out_of_turn(vec![], "OUT_OF_TURN").await;
        let more = vec![finish(request(name, 99, part(99..100))), request("", 100, part(0..0))];
        out_of_turn(more, "OUT_OF_TURN").await;
        assert_no_file(address, &content, "files/a").await;
        until(async || committed(address, &content).await == 100).await;
        let refused = out_of_turn(vec![request(name, 0, part(0..50))], "OFFSET_NOT_COMMITTED_SIZE").await;
        assert_eq!(refused.get_details_error_info().unwrap().metadata["committed_size"], "100");

        assert_no_file(address, &content, "files/a").await;
        assert_eq!(write(address, vec![finish(request(name, 100, part(0..0)))]).await.unwrap(), 100);
        // Each later request may repeat the name.
        let again = Content::new(100, "b");
        let mut requests = again.requests(0, 10);
        requests.iter_mut().for_each(|request| request.resource_name.clone_from(&again.upload));
        assert_eq!(write(address, requests).await.unwrap(), 100);
    });
}

#[test]
fn content_with_another_checksum_is_refused_and_gone() {
    run(async {
        let address = Server::start().await.address;
        let content = Content::new(1000, "a");
        let mut requests = content.requests(0, 100);
        requests[3].data = Bytes::from(vec![0; 100]);
        let refused = write(address, requests).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "CHECKSUM_MISMATCH"));
        assert_eq!(query(address, &content.upload).await.unwrap_err().code(), Code::NotFound);
        assert_no_file(address, &content, "files/a").await;
        resumed(address, &content, 100).await;
    });
}

#[test]
fn names_from_a_peer_never_leave_their_place() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("a/b/data");
        let config = Config { data: server::config::Data::Directory(data.clone()), ..Config::default() };
        let address = Server::with(config).await.address;
        let hash = "a".repeat(64);
        let long = "x".repeat(65);
        for name in ["..", ".", "../../x", "/etc/passwd", "a/../../b", "a\0b", "a\\b", "\u{202e}", &long] {
            for resource in [
                format!("uploads/{}/blobs/{hash}/1/{name}", uuid()),
                format!("uploads/{name}/blobs/{hash}/1"),
                format!("uploads/{}/blobs/{name}/1", uuid()),
                format!("uploads/{}/blobs/{hash}/{name}", uuid()),
            ] {
                let refused = write(address, vec![request(&resource, 0, "x")]).await.unwrap_err();
                assert_eq!(bad_fields(&refused), ["resource_name"], "{resource}");
                assert_eq!(bad_fields(&query(address, &resource).await.unwrap_err()), ["resource_name"]);
            }
            for resource in [
                format!("files/{name}"),
                format!("blobs/{name}/1"),
                format!("blobs/{hash}/{name}"),
                name.into(),
            ] {
                assert_eq!(
                    bad_fields(&read(address, &resource).await.unwrap_err()),
                    ["resource_name"],
                    "{resource}"
                );
            }
        }
        for name in ["...", "-rf", "con", "%2e%2e%2f", "安娜.txt", "~", "$HOME"] {
            resumed(address, &Content::new(10, name), 10).await;
        }
        assert_eq!(entries(directory.path()), ["a"]);
        assert_eq!(entries(&data.join("partial")), [""; 0]);
        assert!(entries(&data.join("blobs")).iter().all(|name| name.len() == 67));
    });
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn limits_are_named() {
    run(async {
        let uploads = UploadLimits { size: 1000, partials: 2, ..UploadLimits::default() };
        let address = Server::with(Config { uploads, ..Config::default() }).await.address;
        let exhausted = async |requests: Vec<WriteRequest>, expected: &str| {
            let refused = write(address, requests).await.unwrap_err();
            assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
            assert_eq!(reason(&refused), expected);
            let metadata = refused.get_details_error_info().unwrap().metadata;
            assert!(metadata.keys().any(|key| key.starts_with("limit")), "{metadata:?}");
        };
        exhausted(Content::new(1001, "a").requests(0, 500), "UPLOAD_TOO_LARGE").await;
        let half = |content: &Content| vec![request(&content.upload, 0, content.bytes.slice(0..500))];
        let contents = ["a", "b", "c"].map(|name| Content::new(1000, name));
        for content in &contents[..2] {
            assert_eq!(write(address, half(content)).await.unwrap(), 500);
        }
        exhausted(half(&contents[2]), "TOO_MANY_UPLOADS").await;
        resumed(address, &contents[0], 100).await;
        resumed(address, &contents[2], 100).await;

        for size in [(4 << 20) + 1, 9 << 20] {
            let large = request(&contents[1].upload, 500, vec![0; size]);
            exhausted(vec![large.clone()], "LIMIT_REACHED").await;
            exhausted(vec![request(&contents[1].upload, 500, ""), large], "LIMIT_REACHED").await;
        }
        resumed(address, &contents[1], 100).await;
    });
}

#[test]
fn what_is_not_there_is_not_read() {
    run(async {
        let address = Server::start().await.address;
        let content = Content::new(100, "a");
        resumed(address, &content, 100).await;
        for (offset, limit, code) in [
            (-1, 0, Code::OutOfRange),
            (101, 0, Code::OutOfRange),
            (i64::MAX, 0, Code::OutOfRange),
            (0, -1, Code::InvalidArgument),
        ] {
            let refused = read_from(address, &content.blob, offset, limit).await.unwrap_err();
            assert_eq!(refused.code(), code, "{offset} {limit}: {refused}");
        }
        let other_size = content.blob.replace("/100", "/99");
        for name in ["files/b", &other_size] {
            let refused = read(address, name).await.unwrap_err();
            assert_eq!(refused.code(), Code::NotFound);
            assert_eq!(refused.get_details_resource_info().unwrap().resource_name, name);
        }
    });
}

#[test]
fn pages_of_files_follow_one_another() {
    run(async {
        let address = Server::start().await.address;
        let mut names: Vec<_> = (0..7).map(|n| format!("{n} ö")).collect();
        for name in &names {
            resumed(address, &Content::new(1, name), 1).await;
        }
        let list = async |page_size, page_token: &str| {
            let request = ListFilesRequest { page_size, page_token: page_token.to_owned() };
            unary(address).list_files(request).await.map(tonic::Response::into_inner)
        };
        let mut token = String::new();
        for expected in [3, 3, 1] {
            let page = list(3, &token).await.unwrap();
            let listed: Vec<_> = page.files.into_iter().map(|file| file.name).collect();
            assert_eq!(listed, names.drain(..expected).collect::<Vec<_>>());
            token = page.next_page_token;
        }
        assert_eq!(token, "");
        assert_eq!(list(7, "").await.unwrap().next_page_token, "");
        for page_size in [0, i32::MAX] {
            assert_eq!(list(page_size, "").await.unwrap().files.len(), 7);
        }
        assert_eq!(bad_fields(&list(-1, "").await.unwrap_err()), ["page_size"]);
        for token in ["x", "0", "ff", "文"] {
            assert_eq!(bad_fields(&list(1, token).await.unwrap_err()), ["page_token"]);
        }
    });
}

#[test]
fn a_name_stands_for_the_newest_content_and_the_old_is_still_there() {
    run(async {
        let address = Server::start().await.address;
        let [old, new] = [Content::new(300_000, "a"), Content::new(300_000, "a")];
        resumed(address, &old, 1000).await;
        let request = ReadRequest { resource_name: "files/a".to_owned(), ..Default::default() };
        let mut reading = byte_stream(address).read(request).await.unwrap().into_inner();
        resumed(address, &new, 1000).await;
        assert_eq!(read(address, "files/a").await.unwrap(), new.bytes);
        assert_eq!(read(address, &old.blob).await.unwrap(), old.bytes);
        let mut bytes = Vec::new();
        while let Some(chunk) = reading.message().await.unwrap() {
            bytes.extend_from_slice(&chunk.data);
        }
        assert_eq!(bytes, old.bytes);

        // The same again takes the name back, without a byte.
        let status = query(address, &old.upload).await.unwrap();
        assert_eq!(status, QueryWriteStatusResponse { committed_size: old.size(), complete: false });
        let first = request_without_data(&old);
        assert_eq!(write(address, vec![first]).await.unwrap(), old.size());
        assert_eq!(read(address, "files/a").await.unwrap(), old.bytes);
        assert_eq!(files(address).await.len(), 1);
    });
}

fn request_without_data(content: &Content) -> WriteRequest {
    request(&content.upload, 0, Bytes::new())
}

#[test]
fn content_that_is_known_is_answered_before_the_requests_end() {
    run(async {
        let address = Server::start().await.address;
        let content = Content::new(1 << 20, "a");
        resumed(address, &content, 1 << 16).await;
        for n in 0..50 {
            // Another name, and more requests than the server reads.
            let upload = format!("uploads/{}/{}/{n}", uuid(), content.blob);
            let first = request(&upload, 0, content.bytes.slice(0..1000));
            let endless = tokio_stream::iter(std::iter::repeat_n(request("", 1000, vec![0; 1 << 16]), 2000));
            let requests = tokio_stream::once(first).chain(endless).chain(tokio_stream::pending());
            assert_eq!(send(address, requests).await.unwrap(), content.size());
            assert_eq!(read(address, &format!("files/{n}")).await.unwrap(), content.bytes);
        }
    });
}

/// A call to `Write` that sends what it is told to.
struct Call {
    requests: Option<mpsc::Sender<WriteRequest>>,
    answer: JoinHandle<Result<i64, Status>>,
}

impl Call {
    fn begin(address: SocketAddr) -> Self {
        let (requests, receiver) = mpsc::channel(1);
        let answer = tokio::spawn(send(address, ReceiverStream::new(receiver)));
        Self { requests: Some(requests), answer }
    }

    async fn send(&self, request: WriteRequest) {
        within(self.requests.as_ref().unwrap().send(request)).await.unwrap();
    }

    async fn answer(mut self) -> Result<i64, Status> {
        self.requests = None;
        within(self.answer).await.unwrap()
    }

    /// Resets the stream.
    async fn cancel(self) {
        self.answer.abort();
        assert!(within(self.answer).await.unwrap_err().is_cancelled());
    }
}

#[test]
fn half_close_without_finish_is_no_file_and_says_how_far_it_got() {
    run(async {
        let address = Server::start().await.address;
        let content = Content::new(10_000, "a");
        let requests = content.requests(0, 1000);
        for (sent, request) in requests.into_iter().enumerate() {
            let first =
                WriteRequest { resource_name: content.upload.clone(), finish_write: false, ..request };
            let expected = (sent as i64 + 1) * 1000;
            assert_eq!(write(address, vec![first]).await.unwrap(), expected);
            assert_eq!(committed(address, &content).await, expected);
            assert_no_file(address, &content, "files/a").await;
        }
        resumed(address, &content, 1000).await;
        assert_eq!(read(address, "files/a").await.unwrap(), content.bytes);
    });
}

#[test]
fn a_call_that_is_cancelled_after_any_message_is_no_file_and_goes_on() {
    run(async {
        let uploads = UploadLimits { checkpoint: 1, ..UploadLimits::default() };
        let address = Server::with(Config { uploads, ..Config::default() }).await.address;
        for sent in 0..=5 {
            let content = Content::new(5000, "a");
            let call = Call::begin(address);
            for request in content.requests(0, 1000).into_iter().take(sent) {
                // All of it, and the only thing missing is to say so.
                call.send(WriteRequest { finish_write: false, ..request }).await;
            }
            // All of this has arrived, and nothing more will.
            until(async || committed(address, &content).await == 1000 * sent as i64).await;
            call.cancel().await;
            until(async || open_calls(Mode::ClientStreaming, address).await == 0).await;
            let refused = read(address, &content.blob).await.unwrap_err();
            assert_eq!(refused.code(), Code::NotFound, "{refused}");
            resumed(address, &content, 1000).await;
            assert_eq!(read(address, &content.blob).await.unwrap(), content.bytes);
        }
    });
}

#[test]
fn a_connection_that_is_cut_anywhere_leaves_the_whole_file_or_none() {
    run(async {
        let server = Server::start().await;
        let proxy = Proxy::start(server.address);
        let chunk = 1500;
        let whole = Content::new(7500, "a");
        proxy.set(Trouble::None);
        write(proxy.address, whole.requests(0, chunk)).await.unwrap();
        let total = proxy.passed();
        assert!(total > 7500, "{total}");
        let (mut cuts, mut files) = (0, 0);
        // Each border of a message is among these, and what is around it.
        for after in
            (1..=total).step_by(83).chain((1..5).flat_map(|n| n * 1510 - 20..n * 1510 + 220).step_by(19))
        {
            let content = Content::new(7500, "b");
            proxy.set(Trouble::CutAfter(after));
            let cut = write(proxy.address, content.requests(0, chunk)).await;
            cuts += u32::from(cut.is_err());
            proxy.set(Trouble::None);
            match read(server.address, &content.blob).await {
                // The last message was there, and only the answer was lost.
                Ok(bytes) => {
                    files += 1;
                    assert_eq!(bytes, content.bytes);
                }
                Err(status) => {
                    assert_eq!(status.code(), Code::NotFound, "{status}");
                    assert!(cut.is_err());
                }
            }
            // The commit may still be under way.
            if !query(proxy.address, &content.upload).await.is_ok_and(|status| status.complete) {
                resume_through(proxy.address, &content, chunk).await;
            }
            assert_eq!(read(server.address, &content.blob).await.unwrap(), content.bytes);
        }
        assert!(cuts > 100, "{cuts} cuts, {files} files");
    });
}

/// Like [`resumed`], where the attempt before may yet come to its end.
async fn resume_through(address: SocketAddr, content: &Content, chunk: usize) {
    for _ in 0..5 {
        let from = match query(address, &content.upload).await {
            Ok(status) if status.complete => return,
            Ok(status) => status.committed_size,
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound, "{status}");
                0
            }
        };
        match write(address, content.requests(from, chunk)).await {
            Ok(committed) => return assert_eq!(committed, content.size()),
            Err(status) => assert_eq!(reason(&status), "OFFSET_NOT_COMMITTED_SIZE", "{status}"),
        }
    }
    panic!("the offset does not hold still");
}

#[test]
fn a_new_attempt_takes_over_and_the_one_before_is_told() {
    run(async {
        let address = Server::start().await.address;
        let content = Content::new(3000, "a");
        let first = Call::begin(address);
        first.send(request(&content.upload, 0, content.bytes.slice(0..1000))).await;
        // It has begun, and goes on while somebody asks.
        until(async || query(address, &content.upload).await.is_ok()).await;
        first.send(request("", 1000, content.bytes.slice(1000..2000))).await;
        until(async || committed(address, &content).await == 2000).await;

        let second = Call::begin(address);
        second.send(request(&content.upload, 2000, content.bytes.slice(2000..2500))).await;
        let refused = within(first.answer).await.unwrap().unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "SUPERSEDED"));
        second.send(finish(request("", 2500, content.bytes.slice(2500..3000)))).await;
        assert_eq!(second.answer().await.unwrap(), 3000);
        assert_eq!(read(address, "files/a").await.unwrap(), content.bytes);
    });
}

#[test]
fn of_many_writers_one_commits_and_the_content_is_whole() {
    run(async {
        let address = Server::start().await.address;
        let content = Content::new(200_000, "a");
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let content = content.clone();
                tokio::spawn(async move {
                    let mut codes = Vec::new();
                    loop {
                        let from = match query(address, &content.upload).await {
                            Ok(status) if status.complete => return codes,
                            Ok(status) => status.committed_size,
                            Err(_) => 0,
                        };
                        match write(address, content.requests(from, 1000)).await {
                            Ok(committed) => assert_eq!(committed, content.size()),
                            Err(status) => codes.push(reason(&status)),
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            for reason in within(writer).await.unwrap() {
                assert!(["SUPERSEDED", "OFFSET_NOT_COMMITTED_SIZE"].contains(&reason.as_str()), "{reason}");
            }
        }
        assert_eq!(read(address, "files/a").await.unwrap(), content.bytes);
        assert_eq!(files(address).await.len(), 1);
    });
}

fn with_data(directory: &Path) -> ServerProgram {
    binary(&["all", "--data-dir", directory.to_str().unwrap()]).serve()
}

#[test]
fn an_upload_goes_on_where_it_was_after_the_server_was_killed() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let mut server = with_data(directory.path());
        let content = Content::new(3_000_000, "a");
        for end in [1_000_000, 2_000_000] {
            let from = committed(server.address, &content).await as usize;
            let call = Call::begin(server.address);
            call.send(request(&content.upload, from, content.bytes.slice(from..end))).await;
            // What arrives becomes durable by and by, while the call is open.
            until(async || committed(server.address, &content).await == end as i64).await;
            call.send(request("", end, content.bytes.slice(end..end + 500_000))).await;
            drop(server);
            within(call.answer).await.unwrap().unwrap_err();
            server = with_data(directory.path());
            let durable = committed(server.address, &content).await;
            assert!((end as i64..=end as i64 + 500_000).contains(&durable), "{durable} of {end}");
            assert_no_file(server.address, &content, "files/a").await;
        }
        resumed(server.address, &content, 100_000).await;
        assert_eq!(read(server.address, "files/a").await.unwrap(), content.bytes);
        // What was acknowledged is there after one more.
        drop(server);
        let server = with_data(directory.path());
        assert_eq!(read(server.address, "files/a").await.unwrap(), content.bytes);
        assert_eq!(files(server.address).await[0].resource_name, content.blob);
        assert!(query(server.address, &content.upload).await.unwrap().complete);
    });
}

#[test]
fn a_server_that_is_killed_at_any_moment_has_whole_files_and_all_that_it_acknowledged() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let mut acknowledged: Vec<Content> = Vec::new();
        for n in 0..12 {
            let server = with_data(directory.path());
            let address = server.address;
            for content in &acknowledged {
                assert_eq!(read(address, &content.blob).await.unwrap(), content.bytes);
            }
            let uploading = tokio::spawn(async move {
                let mut done = Vec::new();
                loop {
                    let content = Content::new(400_000, &format!("{n}"));
                    let last = content.clone();
                    match write(address, content.requests(0, 10_000)).await {
                        Ok(_) => done.push(content),
                        Err(_) => return (done, last),
                    }
                }
            });
            // Not to wait for anything, but to be somewhere else each time.
            tokio::time::sleep(Duration::from_millis(17 * n + 5)).await;
            drop(server);
            let (done, last) = within(uploading).await.unwrap();
            acknowledged.extend(done);
            let server = with_data(directory.path());
            match read(server.address, &last.blob).await {
                Ok(bytes) => assert_eq!(bytes, last.bytes),
                Err(status) => assert_eq!(status.code(), Code::NotFound, "{status}"),
            }
            resume_through(server.address, &last, 10_000).await;
            acknowledged.push(last);
            drop(server);
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_with_room_again_the_upload_goes_on() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let server = binary(&["all"])
            .env("FOURMODES_DATA_DIR", directory.path().join("data"))
            .on_disk("24m", directory.path())
            .serve();
        let disk = server.seen(directory.path());
        let address = server.address;

        let small = Content::new(4 << 20, "small");
        let half = vec![request(&small.upload, 0, small.bytes.slice(0..2 << 20))];
        assert_eq!(write(address, half).await.unwrap(), 2 << 20);
        let large = Content::new(40 << 20, "large");
        let full = write(address, large.requests(0, 1 << 18)).await.unwrap_err();
        assert_eq!((full.code(), reason(&full).as_str()), (Code::ResourceExhausted, "DISK_FULL"));
        assert_no_file(address, &large, "files/large").await;

        let filler = test_support::fill(&disk);
        let full = write(address, small.requests(2 << 20, 1 << 16)).await.unwrap_err();
        assert_eq!((full.code(), reason(&full).as_str()), (Code::ResourceExhausted, "DISK_FULL"));
        assert_eq!(committed(address, &small).await, 2 << 20);
        std::fs::remove_file(filler).unwrap();
        resumed(address, &small, 1 << 16).await;
        assert_eq!(read(address, "files/small").await.unwrap(), small.bytes);
    });
}

#[test]
fn each_method_is_of_its_own_mode() {
    run(async {
        for served in Mode::ALL {
            let address = Server::serving([served]).await.address;
            let content = Content::new(10, "a");
            let calls = [
                (Mode::Unary, unary(address).list_files(ListFilesRequest::default()).await.err()),
                (Mode::ServerStreaming, read(address, &content.blob).await.err()),
                (Mode::ClientStreaming, query(address, &content.upload).await.err()),
                (Mode::ClientStreaming, write(address, content.requests(0, 10)).await.err()),
            ];
            for (mode, refused) in calls {
                match refused {
                    Some(refused) if mode != served => {
                        assert_eq!(refused.code(), Code::Unimplemented, "{refused}");
                        assert!(
                            refused.message().contains(&format!("`fourmodes-server {mode}`")),
                            "{refused}"
                        );
                        assert_eq!(reason(&refused), "MODE_NOT_SERVED");
                    }
                    refused => {
                        assert_eq!(mode, served);
                        assert!(refused.is_none_or(|refused| refused.code() == Code::NotFound));
                    }
                }
            }
        }
    });
}

#[test]
fn a_download_that_is_not_read_is_freed_with_its_call() {
    run(async {
        let server = Server::start().await;
        let content = Content::new(8 << 20, "a");
        resumed(server.address, &content, 1 << 20).await;
        let request = ReadRequest { resource_name: content.blob.clone(), ..Default::default() };
        let mut download = byte_stream(server.address).read(request).await.unwrap().into_inner();
        download.message().await.unwrap().unwrap();
        assert_eq!(open_calls(Mode::ServerStreaming, server.address).await, 1);
        drop(download);
        until(async || open_calls(Mode::ServerStreaming, server.address).await == 0).await;
    });
}

/// What a stalled network holds up is there when it moves again.
#[test]
fn an_upload_over_a_network_that_stalls_goes_on() {
    run(async {
        let server = Server::start().await;
        let proxy = Proxy::start(server.address);
        let content = Content::new(2 << 20, "a");
        proxy.set(Trouble::StallAfter(1 << 20));
        let upload = tokio::spawn(write(proxy.address, content.requests(0, 1 << 16)));
        until(async || proxy.reached()).await;
        assert_no_file(server.address, &content, "files/a").await;
        proxy.set(Trouble::None);
        assert_eq!(within(upload).await.unwrap().unwrap(), content.size());
        assert_eq!(read(server.address, "files/a").await.unwrap(), content.bytes);
    });
}

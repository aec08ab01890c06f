//! What the client makes of a server that does less than it should, or worse.

use std::{
    fs,
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
};

use shared_document::{Document, Refusal};
use shared_proto::fourmodes::v1::{
    ChatRequest, ChatResponse, SyncDocumentRequest, SyncDocumentResponse,
    bidi_streaming_service_server::{BidiStreamingService, BidiStreamingServiceServer},
    sync_document_request::Action,
};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use super::{Files, keeps, once};
use test_support::{LONG, Running, Signal};

/// Answers a request, or not.
type Script = fn(&SyncDocumentRequest) -> Option<Answer>;
type Answer = Result<SyncDocumentResponse, Status>;

struct Scripted {
    script: Script,
    /// Hears of each request.
    told: Sender<SyncDocumentRequest>,
}

type Responses<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl BidiStreamingService for Scripted {
    type ChatStream = Responses<ChatResponse>;
    type SyncDocumentStream = Responses<SyncDocumentResponse>;

    async fn chat(&self, _: Request<Streaming<ChatRequest>>) -> Result<Response<Self::ChatStream>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn sync_document(
        &self,
        requests: Request<Streaming<SyncDocumentRequest>>,
    ) -> Result<Response<Self::SyncDocumentStream>, Status> {
        let (script, told) = (self.script, self.told.clone());
        let responses = requests.into_inner().filter_map(move |request| {
            let Ok(request) = request else { return None };
            let response = script(&request);
            let _ = told.send(request);
            response
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

/// Where it is, and the requests that it is told.
struct Served {
    url: String,
    requests: Receiver<SyncDocumentRequest>,
    _runtime: Runtime,
}

fn serve(script: Script) -> Served {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, requests) = channel();
    let service = BidiStreamingServiceServer::new(Scripted { script, told });
    runtime.spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    Served { url, requests, _runtime: runtime }
}

impl Served {
    /// The next changes that a client sends.
    fn changes(&self) -> Vec<Vec<u8>> {
        loop {
            if let Some(Action::Changes(changes)) = self.requests.recv_timeout(LONG).unwrap().action {
                return changes.changes;
            }
        }
    }

    fn client(&self, file: &Path) -> Running {
        keeps(&self.url, file).spawn()
    }
}

fn heads(document: &Document) -> Vec<Vec<u8>> {
    document.heads().iter().map(|head| head.0.to_vec()).collect()
}

fn answer(changes: Vec<Vec<u8>>, document: &Document) -> Option<Answer> {
    Some(Ok(SyncDocumentResponse { changes, heads: heads(document) }))
}

/// Has an empty document, and takes changes without a word.
fn never_acknowledges(request: &SyncDocumentRequest) -> Option<Answer> {
    match request.action.as_ref()? {
        Action::Open(_) => answer(Vec::new(), &Document::genesis().unwrap()),
        Action::Changes(_) => None,
    }
}

#[cfg(unix)]
#[test]
fn what_the_server_has_not_acknowledged_is_not_in_step() {
    let (server, files) = (serve(never_acknowledges), Files::new());
    fs::write(&files.ana, "text\n").unwrap();
    let mut client = keeps(&server.url, &files.ana).arg("--once").spawn();
    server.changes();
    client.signal(Signal::INT);
    let ended = client.wait();
    assert_eq!((ended.code, &ended.result()["value"]["in_step"]), (Some(130), &false.into()), "{ended:?}");
}

/// Likewise, and ends the call.
fn goes_away(request: &SyncDocumentRequest) -> Option<Answer> {
    never_acknowledges(request).or_else(|| Some(Err(Status::unavailable("for a moment"))))
}

#[test]
fn what_was_under_way_when_the_connection_was_lost_is_sent_again() {
    let (server, files) = (serve(goes_away), Files::new());
    fs::write(&files.ana, "text\n").unwrap();
    let _client = server.client(&files.ana);
    let first = server.changes();
    assert_eq!(server.changes(), first);
}

/// Has an empty document, and says only of the first text that it has it.
fn acknowledges_one(request: &SyncDocumentRequest) -> Option<Answer> {
    let Action::Changes(changes) = request.action.as_ref()? else { return never_acknowledges(request) };
    let (document, _) = Document::genesis().unwrap().with(&changes.changes).ok()?;
    (document.text().unwrap() == "one\n").then(|| answer(Vec::new(), &document)).flatten()
}

#[test]
fn an_edit_is_sent_again_as_the_same_one_after_the_client_was_killed() {
    let (server, files) = (serve(acknowledges_one), Files::new());
    fs::write(&files.ana, "one\n").unwrap();
    let client = server.client(&files.ana);
    let first = server.changes();
    fs::write(&files.ana, "one\ntwo\n").unwrap();
    let second = server.changes();
    drop(client);
    let _client = server.client(&files.ana);
    assert_eq!(server.changes(), [first, second].concat());
}

/// What no document takes, in bytes that look as if one did.
fn contradiction() -> Vec<u8> {
    let mut document = Document::genesis().unwrap();
    let genesis = document.clone();
    document.edit(&genesis.heads(), "text").unwrap();
    let change = document.changes_since(&genesis.heads(), usize::MAX).0[0].raw_bytes().to_vec();
    let flipped = (10..change.len()).flat_map(|place| (0..8).map(move |bit| (place, bit)));
    let flipped = flipped.map(|(place, bit)| {
        let mut flipped = change.clone();
        flipped[place] ^= 1 << bit;
        flipped
    });
    let contradicts = |bytes: &Vec<u8>| matches!(genesis.with(&[bytes]), Err(Refusal::Unfit(_)));
    flipped.into_iter().find(contradicts).expect("automerge takes all of them")
}

fn too_long() -> Vec<Vec<u8>> {
    let mut document = Document::genesis().unwrap();
    let before = document.heads();
    document.edit(&before, &"🦀".repeat((1 << 18) + 1)).unwrap();
    document.changes_since(&before, usize::MAX).0.iter().map(|change| change.raw_bytes().to_vec()).collect()
}

#[test]
fn what_a_server_makes_up_ends_the_client_and_not_the_text() {
    let scripts: [(Script, &str); 4] = [
        (
            |_| answer(vec![b"garbage".to_vec()], &Document::genesis().unwrap()),
            "it does not begin as a change does",
        ),
        (|_| answer(vec![contradiction()], &Document::genesis().unwrap()), "do not fit the document"),
        (|_| answer(too_long(), &Document::genesis().unwrap()), "1048576 are allowed"),
        (|_| Some(Ok(SyncDocumentResponse { changes: Vec::new(), heads: vec![vec![0; 31]] })), "no hash"),
    ];
    for (script, said) in scripts {
        let (server, files) = (serve(script), Files::new());
        fs::write(&files.ana, "text\n").unwrap();
        let ended = server.client(&files.ana).wait();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(said), "no {said:?} in {}", ended.stderr);
        assert_eq!(super::read(&files.ana), "text\n");
        // Nor is anything of it kept.
        let server = test_support::BlockingServer::start();
        assert_eq!(once(&server.url, &files.ana)["bytes"], 5);
    }
}

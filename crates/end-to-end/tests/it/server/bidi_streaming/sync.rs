//! Documents over sockets: what is taken, what is refused, what is durable.

use std::net::SocketAddr;

use shared_document::Document;
use shared_proto::fourmodes::v1::{
    DocumentChanges, OpenDocument, SyncDocumentRequest, SyncDocumentResponse, sync_document_request::Action,
};
use test_support::{Server, bad_fields, bidi_streaming, failure_of, reason, run, within};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::server::binary;

/// A call to `SyncDocument` and what it has been told.
struct Peer {
    requests: mpsc::Sender<SyncDocumentRequest>,
    responses: Streaming<SyncDocumentResponse>,
    document: Document,
}

impl Peer {
    async fn silent(address: SocketAddr) -> Self {
        let (requests, receiver) = mpsc::channel(8);
        let call =
            within(async { bidi_streaming(address).sync_document(ReceiverStream::new(receiver)).await });
        let responses = call.await.unwrap().into_inner();
        Self { requests, responses, document: Document::genesis().unwrap() }
    }

    async fn open(address: SocketAddr, document: &str) -> Self {
        let mut peer = Self::silent(address).await;
        peer.send(open(document, Vec::new())).await;
        peer.hear().await;
        peer
    }

    async fn send(&self, action: Action) {
        within(self.requests.send(SyncDocumentRequest { action: Some(action) })).await.unwrap();
    }

    /// Sends an edit and does not wait.
    async fn write(&mut self, text: &str) {
        let before = self.document.heads();
        self.document.edit(&before, text).unwrap();
        self.send(changes(&self.document, &before)).await;
    }

    /// The next response, and its heads.
    async fn hear(&mut self) -> Vec<Vec<u8>> {
        let response = within(self.responses.message()).await.unwrap().expect("the call ended");
        self.document = self.document.with(&response.changes).unwrap().0;
        response.heads
    }

    async fn hear_until(&mut self, mut done: impl FnMut(&Document, &[Vec<u8>]) -> bool) {
        loop {
            let heads = self.hear().await;
            if done(&self.document, &heads) {
                return;
            }
        }
    }

    /// Writes, and waits until the server has it.
    async fn wrote(&mut self, text: &str) {
        self.tries(text).await.unwrap();
    }

    /// Writes, and waits until the server has it or refuses it.
    async fn tries(&mut self, text: &str) -> Result<(), Status> {
        self.write(text).await;
        loop {
            let response = within(self.responses.message()).await?.expect("the call ended");
            self.document = self.document.with(&response.changes).unwrap().0;
            if response.heads == bytes_of(&self.document) {
                return Ok(());
            }
        }
    }

    async fn failure(mut self) -> Status {
        failure_of(&mut self.responses).await
    }
}

fn bytes_of(document: &Document) -> Vec<Vec<u8>> {
    document.heads().iter().map(|head| head.0.to_vec()).collect()
}

fn open(document: &str, heads: Vec<Vec<u8>>) -> Action {
    Action::Open(OpenDocument { document: document.to_owned(), heads })
}

fn changes(document: &Document, since: &[shared_document::Head]) -> Action {
    let changes = document.changes_since(since, usize::MAX).0;
    Action::Changes(DocumentChanges {
        changes: changes.iter().map(|change| change.raw_bytes().to_vec()).collect(),
    })
}

fn garbage(bytes: &[u8]) -> Action {
    Action::Changes(DocumentChanges { changes: vec![bytes.to_vec()] })
}

#[test]
fn two_peers_that_write_at_the_same_time_have_the_same_text() {
    run(async {
        let server = Server::start().await;
        let mut ana = Peer::open(server.address, "notes").await;
        let mut ben = Peer::open(server.address, "notes").await;
        ana.write("ana\n").await;
        ben.write("ben\n").await;
        let both = |document: &Document, _: &[Vec<u8>]| document.len() == 8;
        ana.hear_until(both).await;
        ben.hear_until(both).await;
        assert_eq!(ana.document.text().unwrap(), ben.document.text().unwrap());
        // Another document has nothing of it.
        assert!(Peer::open(server.address, "other").await.document.is_empty());
    });
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    run(async {
        let data = tempfile::tempdir().unwrap();
        let mut server = binary(&["all"]).env("FOURMODES_DATA_DIR", data.path()).serve();
        let mut text = String::new();
        for n in 0..5 {
            let mut peer = Peer::open(server.address, "notes").await;
            peer.hear_until_text(&text).await;
            text.push_str(&format!("{n}\n"));
            peer.wrote(&text).await;
            drop(server);
            server = binary(&["all"]).env("FOURMODES_DATA_DIR", data.path()).serve();
        }
        let mut peer = Peer::open(server.address, "notes").await;
        peer.hear_until_text(&text).await;
    });
}

impl Peer {
    async fn hear_until_text(&mut self, text: &str) {
        while self.document.text().unwrap() != text {
            self.hear().await;
        }
    }
}

#[test]
fn a_document_outlives_its_many_changes() {
    run(async {
        let data = tempfile::tempdir().unwrap();
        let server = binary(&["all"]).env("FOURMODES_DATA_DIR", data.path()).serve();
        let mut peer = Peer::open(server.address, "notes").await;
        let mut text = String::new();
        // More than the records after which the document is written anew.
        for n in 0..300 {
            text.push_str(&format!("{n}\n"));
            peer.wrote(&text).await;
        }
        drop(server);
        let server = binary(&["all"]).env("FOURMODES_DATA_DIR", data.path()).serve();
        let mut peer = Peer::open(server.address, "notes").await;
        peer.hear_until_text(&text).await;
        peer.wrote("short").await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_with_room_again_the_document_goes_on() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let server = binary(&["all"])
            .env("FOURMODES_DATA_DIR", directory.path().join("data"))
            .on_disk("8m", directory.path())
            .serve();
        let disk = server.seen(directory.path());
        let mut witness = Peer::open(server.address, "notes").await;
        let mut peer = Peer::open(server.address, "notes").await;
        let mut kept = "kept\n".to_owned();
        peer.wrote(&kept).await;
        let filler = test_support::fill(&disk);
        // The first few may find room in what the store has.
        let full = loop {
            let text = kept.clone() + &"🦀".repeat(10_000);
            match peer.tries(&text).await {
                Ok(()) => kept = text,
                Err(full) => break full,
            }
        };
        assert_eq!((full.code(), reason(&full).as_str()), (Code::ResourceExhausted, "DISK_FULL"));
        witness.hear_until_text(&kept).await;
        let mut peer = Peer::open(server.address, "notes").await;
        peer.hear_until_text(&kept).await;
        std::fs::remove_file(filler).unwrap();
        let more = kept + "more\n";
        peer.wrote(&more).await;
        witness.hear_until_text(&more).await;
    });
}

#[test]
fn what_breaks_a_rule_is_refused_and_nobody_else_is_harmed() {
    run(async {
        let server = Server::start().await;
        let mut witness = Peer::open(server.address, "notes").await;
        witness.wrote("fine").await;
        let opened = async |action: Action| {
            let peer = Peer::open(server.address, "notes").await;
            peer.send(action).await;
            peer.failure().await
        };
        let first = async |action: Action| {
            let peer = Peer::silent(server.address).await;
            peer.send(action).await;
            peer.failure().await
        };
        assert_eq!(bad_fields(&first(open("", Vec::new())).await), ["document"]);
        assert_eq!(bad_fields(&first(open("x", vec![vec![0; 31]])).await), ["heads"]);
        assert_eq!(bad_fields(&first(open("x", vec![vec![0; 32]; 2049])).await), ["heads"]);
        assert_eq!(first(garbage(b"")).await.code(), Code::FailedPrecondition);
        assert_eq!(reason(&opened(open("notes", Vec::new())).await), "OUT_OF_TURN");
        assert_eq!(reason(&opened(garbage(b"garbage")).await), "NOT_A_TEXT");

        let mut document = Document::genesis().unwrap();
        let genesis = document.heads();
        // It is the text of all of them that may not be longer.
        document.edit(&genesis, &"🦀".repeat((1 << 18) - 1)).unwrap();
        assert_eq!(document.len(), (1 << 20) - "fine".len());
        document.edit(&document.heads(), &(document.text().unwrap() + "x")).unwrap();
        assert_eq!(reason(&opened(changes(&document, &genesis)).await), "TEXT_TOO_LONG");
        let mut document = Document::genesis().unwrap();
        document.edit(&genesis, "one").unwrap();
        let one = document.heads();
        document.edit(&one, "one two").unwrap();
        let early = opened(changes(&document, &one)).await;
        assert_eq!((early.code(), reason(&early).as_str()), (Code::FailedPrecondition, "OUT_OF_ORDER"));

        witness.wrote("still fine").await;
        assert_eq!(witness.document.text().unwrap(), "still fine");
    });
}

#[test]
fn real_changes_with_flipped_bytes_are_refused_and_nobody_else_is_harmed() {
    run(async {
        let server = Server::start().await;
        let mut witness = Peer::open(server.address, "notes").await;
        let mut document = Document::genesis().unwrap();
        let genesis = document.heads();
        document.edit(&genesis, "a text of some words, of which some are the same words").unwrap();
        let change = document.changes_since(&genesis, usize::MAX).0[0].raw_bytes().to_vec();
        let mut refused = Vec::new();
        for place in 0..change.len() {
            let mut flipped = change.clone();
            flipped[place] ^= 1 << (place % 8);
            let mut peer = Peer::open(server.address, &format!("flipped {place}")).await;
            peer.send(garbage(&flipped)).await;
            // A few are other changes that fit: another letter, another author.
            match within(peer.responses.message()).await {
                Ok(response) => drop(response.expect("the call ended with OK")),
                Err(status) => refused.push(reason(&status)),
            }
        }
        assert!(refused.len() > change.len() / 4, "{refused:?}");
        assert!(
            refused.iter().all(|reason| ["NOT_A_TEXT", "OUT_OF_ORDER"].contains(&reason.as_str())),
            "{refused:?}"
        );
        witness.wrote("fine").await;
    });
}

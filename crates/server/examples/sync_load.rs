//! How long a document takes to open, and one keystroke in it until it is durable:
//!
//! ```text
//! cargo run --release --example sync_load -- http://127.0.0.1:50051 notes [bytes] [edits] [of them one by one]
//! ```
//!
//! A document that is empty gets a text of so many bytes first. The edits are as
//! somebody types: a letter more or less, mostly where the last one was.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::time::Instant;

use anyhow::{Context as _, ensure};
use shared_document::{Document, Head};
use shared_proto::fourmodes::v1::{
    DocumentChanges, OpenDocument, SyncDocumentRequest, SyncDocumentResponse,
    bidi_streaming_service_client::BidiStreamingServiceClient, sync_document_request::Action,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

/// Changes that are sent together, in bytes.
const TOGETHER: usize = 1 << 20;

struct Peer {
    requests: mpsc::Sender<SyncDocumentRequest>,
    responses: Streaming<SyncDocumentResponse>,
    document: Document,
    durable: Vec<Head>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (url, name) =
        (arguments.next().context("which server?")?, arguments.next().context("which document?")?);
    let mut number = |otherwise: usize| arguments.next().map_or(Ok(otherwise), |number| number.parse());
    let (bytes, edits, single) = (number(100 << 10)?, number(10_000)?, number(200)?);

    let begun = Instant::now();
    let mut peer = Peer::open(url, name).await?;
    println!("opened in {:.1?}: {} bytes", begun.elapsed(), peer.document.len());
    let mut random = fastrand::Rng::with_seed(1);
    if peer.document.is_empty() {
        let letters = (0..bytes).map(|_| if random.u8(..) < 4 { '\n' } else { random.lowercase() });
        peer.edit(&letters.collect::<String>())?;
        peer.send().await?;
    }
    let mut text = peer.document.text()?;
    let mut place = text.len() / 2;
    let mut types = |peer: &mut Peer| {
        match random.u8(..) {
            0..8 => place = random.usize(..text.len()),
            8..40 if place > 0 => {
                place -= 1;
                text.remove(place);
            }
            _ => {
                text.insert(place, random.lowercase());
                place += 1;
            }
        }
        peer.edit(&text)
    };
    for _ in single..edits {
        types(&mut peer)?;
    }
    let begun = Instant::now();
    peer.send().await?;
    println!(
        "{} edits sent together are durable after {:.1?}",
        edits.saturating_sub(single),
        begun.elapsed()
    );
    let mut took = Vec::new();
    for _ in 0..single.min(edits) {
        types(&mut peer)?;
        let begun = Instant::now();
        peer.send().await?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    if let Some(last) = took.len().checked_sub(1) {
        let percentile = |p: usize| took[last * p / 100];
        println!(
            "one by one: p50 {:.1?}, p99 {:.1?}, max {:.1?}",
            percentile(50),
            percentile(99),
            percentile(100)
        );
    }
    Ok(())
}

impl Peer {
    /// Waits until it has all of the document.
    async fn open(url: String, document: String) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(url)?
            .initial_stream_window_size(grpc_wire::limits::STREAM_WINDOW)
            .initial_connection_window_size(grpc_wire::limits::CONNECTION_WINDOW)
            .connect()
            .await?;
        let (requests, receiver) = mpsc::channel(1);
        let open = Action::Open(OpenDocument { document, heads: Vec::new() });
        requests.send(SyncDocumentRequest { action: Some(open) }).await?;
        let mut client = BidiStreamingServiceClient::new(channel).max_decoding_message_size(8 << 20);
        let responses = client.sync_document(ReceiverStream::new(receiver)).await?.into_inner();
        let document = Document::genesis()?;
        let mut peer = Self { requests, responses, durable: document.heads(), document };
        peer.hear().await?;
        while !peer.document.has_all(&peer.durable) {
            peer.hear().await?;
        }
        Ok(peer)
    }

    async fn hear(&mut self) -> anyhow::Result<()> {
        let response = self.responses.message().await?.context("the server ended the call")?;
        if !response.changes.is_empty() {
            self.document = self.document.with(&response.changes)?.0;
        }
        let heads = response.heads.iter().map(|head| head.as_slice().try_into());
        self.durable = heads.collect::<Result<_, _>>()?;
        Ok(())
    }

    fn edit(&mut self, text: &str) -> anyhow::Result<()> {
        self.document.edit(&self.document.heads(), text)?;
        Ok(())
    }

    /// Waits until what it has is on the server's disk.
    async fn send(&mut self) -> anyhow::Result<()> {
        while self.durable != self.document.heads() {
            let (changes, _) = self.document.changes_since(&self.durable, TOGETHER);
            ensure!(!changes.is_empty(), "somebody else edits the document");
            let changes = changes.iter().map(|change| change.raw_bytes().to_vec()).collect();
            let changes = Action::Changes(DocumentChanges { changes });
            self.requests.send(SyncDocumentRequest { action: Some(changes) }).await?;
            self.hear().await?;
        }
        Ok(())
    }
}

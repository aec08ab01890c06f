//! This side's copy of a document, and what is known of the server's.

use shared_document::{Document, Head};
use shared_proto::{
    fourmodes::v1::{
        DocumentChanges, OpenDocument, SyncDocumentRequest, SyncDocumentResponse,
        bidi_streaming_service_client::BidiStreamingServiceClient, sync_document_request::Action,
    },
    limits::CONVERSATION_HEARTBEAT,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, once, wrappers::ReceiverStream};
use tonic::Streaming;

use crate::{
    failure::Failure,
    session::{Session, Tap},
};

/// What a request has of changes, in bytes, unless a single one is longer.
const REQUEST: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) document: Document,
    /// What the server has on its disk, as it has last said.
    pub(crate) durable: Vec<Head>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Whether it has said so by this connection, and all of it has come.
    complete: bool,
    /// The first of the changes that were sent and are not known to be durable.
    under_way: Option<Head>,
}

/// A call with a document open.
pub(crate) struct Call {
    requests: mpsc::Sender<Action>,
    responses: Streaming<SyncDocumentResponse>,
}

impl Replica {
    pub(crate) fn new(document: Document, durable: Vec<Head>) -> Self {
        Self { document, durable, sent: 0, received: 0, complete: false, under_way: None }
    }

    pub(crate) async fn open(
        &mut self,
        session: &Session,
        channel: Tap,
        document: &str,
    ) -> Result<Call, Failure> {
        (self.complete, self.under_way) = (false, None);
        let heads = self.document.heads().into_iter().chain(self.durable.iter().copied());
        let heads = heads.map(|head| head.0.to_vec()).collect();
        let open = Action::Open(OpenDocument { document: document.to_owned(), heads });
        let (requests, actions) = mpsc::channel(1);
        let requests_of = once(open).chain(ReceiverStream::new(actions));
        let requests_of = requests_of.map(|action| SyncDocumentRequest { action: Some(action) });
        let mut client = BidiStreamingServiceClient::new(channel);
        let request = session.request(requests_of, Some(CONVERSATION_HEARTBEAT));
        let responses = client.sync_document(request).await?.into_inner();
        Ok(Call { requests, responses })
    }

    /// Cancelling loses nothing.
    pub(crate) async fn hear(&mut self, call: &mut Call) -> Result<(), Failure> {
        match call.responses.message().await? {
            Some(response) => self.take(response),
            None => Err(Failure::answer("the server ended the call, although only the client may")),
        }
    }

    fn take(&mut self, response: SyncDocumentResponse) -> Result<(), Failure> {
        if !response.changes.is_empty() {
            let taken = self.document.with_known(&response.changes);
            let (document, new) = taken.map_err(|refusal| Failure::answer(refusal.to_string()))?;
            self.document = document;
            self.received += new.len() as u64;
        }
        let heads = response.heads.iter().map(|head| head.as_slice().try_into());
        self.durable =
            heads.collect::<Result<_, _>>().map_err(|_| Failure::answer("a head that is no hash"))?;
        self.complete = self.document.has_all(&self.durable);
        Ok(())
    }

    /// Sends what the server does not have, the next part of it when the one
    /// before is durable.
    pub(crate) fn send(&mut self, call: &Call) {
        if !self.complete {
            return;
        }
        let (changes, _) = self.document.changes_since(&self.durable, REQUEST);
        let first = changes.first().map(|change| change.hash());
        if first.is_none() || first == self.under_way {
            return;
        }
        let raw = changes.iter().map(|change| change.raw_bytes().to_vec()).collect();
        // Fails when the call is over; the response then tells why. Or when what
        // was sent before is still here; then the answer to that comes first.
        if call.requests.try_send(Action::Changes(DocumentChanges { changes: raw })).is_ok() {
            self.under_way = first;
            self.sent += changes.len() as u64;
        }
    }

    /// Whether the server has told all that it has.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether both have the same, on the server's disk.
    pub(crate) fn is_durable(&self) -> bool {
        self.complete && self.document.heads().iter().all(|head| self.durable.contains(head))
    }
}

impl Call {
    /// Ends the call by half-close.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        let Self { requests, mut responses } = self;
        drop(requests);
        while responses.message().await?.is_some() {}
        Ok(())
    }
}

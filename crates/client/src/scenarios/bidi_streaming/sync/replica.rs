//! This side's copy of a document, and what is known of the server's copy.

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

/// The most bytes of changes in a request, unless a single change is longer.
const REQUEST: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) document: Document,
    /// The heads that the server has on its disk, by its last response.
    pub(crate) durable: Vec<Head>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Whether the server has said so on this connection, and all of its changes have
    /// arrived.
    complete: bool,
    /// The first change that was sent and is not known to be durable.
    under_way: Option<Head>,
}

/// A call on an open document.
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

    /// Cancel safe.
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

    /// Sends the changes that the server lacks, in parts: the next part follows when
    /// the previous one is durable.
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
        // Fails when the call is over; the response then says why. Also fails when an
        // earlier request is still queued; its response then comes first.
        if call.requests.try_send(Action::Changes(DocumentChanges { changes: raw })).is_ok() {
            self.under_way = first;
            self.sent += changes.len() as u64;
        }
    }

    /// Whether the server has sent all that it has.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether both sides have the same changes, on the server's disk.
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

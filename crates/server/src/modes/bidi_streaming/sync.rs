//! A document in step: what others changed goes out, what this peer changed
//! comes in.
//!
//! Copy: there is no queue of updates. A peer that can take something is given
//! what it does not have by then, however often the document was changed in the
//! meantime. An update says what the server has, and so acknowledges as well.
//! Leave: heads and changes, which are automerge's; a number of the last version
//! does the same where only one side changes anything.

use std::sync::Arc;

use domain::documents::{Documents, Head, Update};
use shared_proto::{
    fourmodes::v1::{
        DocumentChanges, OpenDocument, SyncDocumentRequest, SyncDocumentResponse,
        sync_document_request::Action,
    },
    limits::CONVERSATION_HEARTBEAT,
};
use tokio::time::sleep;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::refused::{Refused, bad_request, out_of_turn};

/// Twice as many as a document has at most: those of the peer and those that it
/// knows of the server.
const HEADS: usize = 2048;

pub(super) fn in_step(
    documents: Arc<Documents>,
    mut requests: Streaming<SyncDocumentRequest>,
) -> impl Stream<Item = Result<SyncDocumentResponse, Refused>> {
    async_stream::try_stream! {
        let Some(first) = requests.message().await? else { return };
        let OpenDocument { document, heads } = open_of(first)?;
        let mut peer = documents.open(&document, heads_of(&heads)?).await?;
        loop {
            let request = tokio::select! {
                biased;
                () = peer.behind() => None,
                () = sleep(CONVERSATION_HEARTBEAT) => None,
                request = requests.message() => Some(request),
            };
            match request {
                None => yield wire(peer.update().await?),
                Some(request) => match request? {
                    Some(request) => peer.offer(changes_of(request)?.changes).await?,
                    None => return,
                },
            }
        }
    }
}

fn open_of(request: SyncDocumentRequest) -> Result<OpenDocument, Status> {
    match request.action {
        Some(Action::Open(open)) => Ok(open),
        Some(Action::Changes(_)) => Err(out_of_turn("the first message must open a document")),
        None => Err(no_action()),
    }
}

fn changes_of(request: SyncDocumentRequest) -> Result<DocumentChanges, Status> {
    match request.action {
        Some(Action::Changes(changes)) => Ok(changes),
        Some(Action::Open(_)) => Err(out_of_turn("this call has already opened a document")),
        None => Err(no_action()),
    }
}

fn no_action() -> Status {
    bad_request("action", "a message must open a document or contain changes".to_owned())
}

fn heads_of(heads: &[Vec<u8>]) -> Result<Vec<Head>, Status> {
    if heads.len() > HEADS {
        return Err(bad_request("heads", format!("there are {} heads; {HEADS} are allowed", heads.len())));
    }
    let heads = heads.iter().map(|head| head.as_slice().try_into());
    heads.collect::<Result<_, _>>().map_err(|_| bad_request("heads", "a head has 32 bytes".to_owned()))
}

fn wire(Update { changes, heads }: Update) -> SyncDocumentResponse {
    SyncDocumentResponse { changes, heads: heads.iter().map(|head| head.0.to_vec()).collect() }
}

//! Sends the bytes: asks the server how many have arrived, and sends the rest.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use blake3::{Hash, Hasher};
use bytes::Bytes;
use shared_proto::{
    Reason,
    bytestream::{
        QueryWriteStatusRequest, QueryWriteStatusResponse, WriteRequest, byte_stream_client::ByteStreamClient,
    },
};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::Code;
use transport::Mode;

use super::{Report, source::read_ahead};
use crate::{bar, failure::Failure, session::Session};

/// How often the server may report another offset before the upload fails. Once is
/// normal: the server was still writing what had arrived.
const CORRECTIONS: u32 = 3;

/// The resource name of an upload. It depends only on the content and the name, so that
/// every client that uploads the same content gets the same one.
pub(crate) fn upload_name(hash: &Hash, size: u64, name: Option<&str>) -> String {
    let mut hasher = Hasher::new_derive_key("Four Modes, the id of an upload");
    hasher.update(hash.as_bytes()).update(name.unwrap_or_default().as_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    let id = uuid::Builder::from_custom_bytes(id).into_uuid();
    let name = name.map(|name| format!("/{name}")).unwrap_or_default();
    format!("uploads/{id}/blobs/{hash}/{size}{name}")
}

pub(super) struct Transfer<'a> {
    session: &'a Session,
    file: &'a Path,
    size: u64,
    /// The resource name of the upload.
    name: String,
    /// The size of a message.
    chunk: usize,
    /// How many bytes the server had by its last answer.
    committed: u64,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(session: &'a Session, file: &'a Path, size: u64, name: String, chunk: usize) -> Self {
        Self { session, file, size, name, chunk, committed: 0 }
    }

    /// Asks how many bytes the upload has, and sends the rest.
    pub(super) async fn attempt(&mut self, report: &mut Report) -> Result<(), Failure> {
        let mut corrections = 0;
        loop {
            let QueryWriteStatusResponse { committed_size, complete } = self.query().await?;
            let committed = u64::try_from(committed_size).ok().filter(|committed| *committed <= self.size);
            let committed = committed.ok_or_else(|| {
                Failure::answer(format!("{committed_size} of {} bytes committed", self.size))
            })?;
            if committed > self.committed {
                self.committed = committed;
                self.session.progressed();
            }
            if complete {
                // Possibly completed by an attempt whose answer was lost.
                report.already_there = report.bytes_sent.load(Relaxed) == 0;
                return Ok(());
            }
            if (1..self.size).contains(&committed) {
                report.resumed_from.push(committed);
            }
            match self.write(committed, report).await {
                Err(failure)
                    if failure.has_reason(Reason::OffsetNotCommittedSize) && corrections < CORRECTIONS =>
                {
                    corrections += 1;
                }
                ended => return ended,
            }
        }
    }

    async fn query(&self) -> Result<QueryWriteStatusResponse, Failure> {
        let request = QueryWriteStatusRequest { resource_name: self.name.clone() };
        let mut client = ByteStreamClient::new(self.session.channel());
        // The call has the deadline of the upload, because it may queue behind bytes of
        // the last attempt.
        let status = client.query_write_status(self.session.request(request, None)).await;
        match status.map_err(Failure::from) {
            Ok(status) => Ok(status.into_inner()),
            Err(failure) if failure.is_status(Code::NotFound) => {
                Ok(QueryWriteStatusResponse { committed_size: 0, complete: false })
            }
            Err(failure) => Err(failure),
        }
    }

    async fn write(&self, from: u64, report: &mut Report) -> Result<(), Failure> {
        let (failed, failure) = oneshot::channel();
        let sent_before = report.bytes_sent.load(Relaxed);
        let requests = self.requests(from, report.bytes_sent.clone(), failed);
        let mut request = self.session.request(requests, None);
        request.extensions_mut().insert(Mode::ClientStreaming);
        let mut client = ByteStreamClient::new(self.session.channel());
        let response = tokio::select! {
            biased;
            // Dropping the call cancels it: the stream must not end as if this had been
            // all.
            Ok(failure) = failure => return Err(failure),
            response = client.write(request) => response?.into_inner(),
        };
        if u64::try_from(response.committed_size) != Ok(self.size) {
            let (committed, size) = (response.committed_size, self.size);
            return Err(Failure::answer(format!("finished, and {committed} of {size} bytes committed")));
        }
        // If the answer came before all bytes were sent, another client had uploaded
        // the content.
        let sent = report.bytes_sent.load(Relaxed);
        report.already_there = self.size > 0 && (sent == 0 || sent - sent_before < self.size - from);
        Ok(())
    }

    fn requests(
        &self,
        from: u64,
        sent: Arc<AtomicU64>,
        failed: oneshot::Sender<Failure>,
    ) -> impl Stream<Item = WriteRequest> + use<> {
        let mut chunks = read_ahead(self.file, from, self.size, self.chunk);
        let (file, mut resource_name, size) = (self.file.to_owned(), self.name.clone(), self.size);
        let progress = self.session.progress().clone();
        bar::of_bytes(&progress, size, "the server");
        progress.set_position(from);
        async_stream::stream! {
            let mut offset = from;
            loop {
                let data = match chunks.recv().await {
                    Some(data) => data,
                    // All bytes are committed; only the end of the upload is missing.
                    None if offset == size => Ok(Bytes::new()),
                    None => {
                        let reason = "cannot be read: it has become shorter since the upload began";
                        Err(Failure::input(&file, reason))
                    }
                };
                let data = match data {
                    Ok(data) => data,
                    Err(failure) => {
                        let _ = failed.send(failure);
                        return std::future::pending().await;
                    }
                };
                let write_offset = offset;
                offset += data.len() as u64;
                sent.fetch_add(data.len() as u64, Relaxed);
                progress.set_position(offset);
                let finish_write = offset == size;
                yield WriteRequest {
                    resource_name: std::mem::take(&mut resource_name),
                    write_offset: write_offset as i64,
                    finish_write,
                    data,
                };
                if finish_write {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_upload_follows_from_content_and_name() {
        let name = |content: &str, name| upload_name(&blake3::hash(content.as_bytes()), 1, name);
        assert_eq!(name("a", Some("x")), name("a", Some("x")));
        assert_ne!(name("a", Some("x"))[..44], name("b", Some("x"))[..44]);
        assert_ne!(name("a", Some("x"))[..44], name("a", Some("y"))[..44]);
        assert_ne!(name("a", Some("x"))[..44], name("a", None)[..44]);
    }
}

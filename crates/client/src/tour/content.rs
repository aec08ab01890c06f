//! What the demonstrations upload and download. It has no name, so it is in no
//! listing; it is another one for each run, so a run removes only its own.

use std::{sync::LazyLock, time::SystemTime};

use blake3::Hash;
use bytes::Bytes;
use shared_proto::{
    bytestream::{WriteRequest, byte_stream_client::ByteStreamClient},
    fourmodes::v1::DeleteFileRequest,
};

use super::step::unless_refused;
use crate::{
    failure::Failure,
    scenarios::{client_streaming::upload::upload_name, server_streaming::download::content::Content},
    session::Session,
};

static CONTENT: LazyLock<Bytes> = LazyLock::new(|| {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let run = format!("{}-{}", std::process::id(), now.as_nanos());
    Bytes::from(format!("A line of the file that shows how to upload: {run}.\n").repeat(60))
});

pub(super) fn content() -> (Bytes, Hash) {
    (CONTENT.clone(), blake3::hash(&CONTENT))
}

/// Uploads it, if this client may.
pub(super) async fn upload(session: &Session) -> Result<(), Failure> {
    let (data, hash) = content();
    let resource_name = upload_name(&hash, data.len() as u64, None);
    let whole = WriteRequest { resource_name, data, finish_write: true, ..WriteRequest::default() };
    let request = session.request(tokio_stream::once(whole), None);
    let written = ByteStreamClient::new(session.channel()).write(request).await;
    unless_refused(written.map_err(Failure::from))
}

/// Removes it, if this client may.
pub(super) async fn remove(session: &Session) -> Result<(), Failure> {
    let (data, hash) = content();
    let resource_name = Content { hash, size: data.len() as u64 }.to_string();
    let request = DeleteFileRequest { resource_name, ..DeleteFileRequest::default() };
    let removed =
        session.unary_at_home(request, async |mut client, request| client.delete_file(request).await);
    unless_refused(removed.await)
}

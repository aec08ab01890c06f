//! What is read: content by its checksum, whatever name was asked for.

use std::fmt;

use blake3::Hash;
use shared_proto::{
    RESOURCE_NAME_HEADER,
    bytestream::{ReadRequest, ReadResponse, byte_stream_client::ByteStreamClient},
};
use tonic::{Streaming, metadata::MetadataMap};

use crate::{failure::Failure, session::Session};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) hash: Hash,
    pub(crate) size: u64,
}

/// Begins to read, and finds out what.
pub(crate) async fn read(
    session: &Session,
    resource: &str,
    offset: u64,
) -> Result<(Content, Streaming<ReadResponse>), Failure> {
    let request =
        ReadRequest { resource_name: resource.to_owned(), read_offset: offset as i64, read_limit: 0 };
    let mut client = ByteStreamClient::new(session.channel());
    let response = client.read(session.request(request, None)).await?;
    Ok((Content::of(response.metadata())?, response.into_inner()))
}

impl Content {
    /// A server that is none of ours does not say what it sends: then there is
    /// nothing to compare it with.
    fn of(metadata: &MetadataMap) -> Result<Self, Failure> {
        let header = metadata.get(RESOURCE_NAME_HEADER).and_then(|header| header.to_str().ok());
        let content = header.and_then(|name| {
            let (hash, size) = name.strip_prefix("blobs/")?.split_once('/')?;
            Some(Self { hash: Hash::from_hex(hash).ok()?, size: size.parse().ok()? })
        });
        content.ok_or_else(|| {
            Failure::answer(format!("no header {RESOURCE_NAME_HEADER} that names the content"))
        })
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blobs/{}/{}", self.hash, self.size)
    }
}

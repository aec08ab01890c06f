//! Downloads that can be resumed.
//!
//! Copy: a chunk is read when the transport asks for it, on a thread that may
//! wait for a disk. The file is open before the first response, so what becomes
//! of its name meanwhile does not matter. The header says which content a name
//! stands for now, so that a client goes on with the same after a loss.
//! Leave: the header, where a name never gets another content.

use std::io::{self, Read as _, Seek as _, SeekFrom};

use bytes::Bytes;
use domain::{
    resources::Source,
    uploads::{Content, UploadError, Uploads},
};
use shared_proto::{
    RESOURCE_NAME_HEADER,
    bytestream::{ReadRequest, ReadResponse},
};
use tonic::{Response, Status, metadata::MetadataValue};

use super::blocking;
use crate::{
    modes::{ResponseStream, responses},
    refused::{Refused, bad_request, content_damaged, out_of_range},
};

/// In bytes.
const CHUNK: u64 = 256 << 10;

pub(crate) async fn read(
    uploads: &Uploads,
    request: ReadRequest,
) -> Result<Response<ResponseStream<ReadResponse>>, Refused> {
    let ReadRequest { resource_name, read_offset, read_limit } = request;
    let source: Source = resource_name.parse()?;
    let limit = match u64::try_from(read_limit) {
        Ok(0) => u64::MAX,
        Ok(limit) => limit,
        Err(_) => {
            return Err(bad_request("read_limit", format!("read_limit {read_limit} is negative")).into());
        }
    };
    let blob = uploads.find(&source).await?;
    let place = uploads.place().map_err(Refused::from)?;
    let uploads = uploads.clone();
    let mut file = blocking(move || uploads.open_blob(&blob)).await??;
    let offset = u64::try_from(read_offset).ok().filter(|offset| *offset <= blob.size);
    let offset = offset.ok_or_else(|| {
        let message = format!("read_offset {read_offset} is not from 0 to the size, {}", blob.size);
        out_of_range("read_offset", message)
    })?;
    let mut left = (blob.size - offset).min(limit);
    let chunks = async_stream::try_stream! {
        let _place = place;
        let mut begin = Some(offset);
        while left > 0 {
            let (most, seek) = (left.min(CHUNK), begin.take());
            let read;
            (file, read) = blocking(move || {
                let read = chunk(&mut file, seek, most);
                (file, read)
            })
            .await?;
            let data = read.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => Refused::from(content_damaged()),
                // Of a file on a disk, only the name goes.
                io::ErrorKind::NotFound => UploadError::NotFound("content", blob.to_string()).into(),
                _ => UploadError::from(error).into(),
            })?;
            left -= data.len() as u64;
            yield ReadResponse { data };
        }
    };
    let mut response = Response::new(responses(chunks));
    let header = MetadataValue::try_from(blob.to_string());
    let header = header.map_err(|error| Status::internal(format!("a name that fits no header: {error}")))?;
    response.metadata_mut().insert(RESOURCE_NAME_HEADER, header);
    Ok(response)
}

/// The next `length` bytes, all of them.
fn chunk(file: &mut Content, seek: Option<u64>, length: u64) -> io::Result<Bytes> {
    if let Some(offset) = seek {
        file.seek(SeekFrom::Start(offset))?;
    }
    let mut bytes = Vec::with_capacity(length as usize);
    match file.take(length).read_to_end(&mut bytes)? as u64 == length {
        true => Ok(bytes.into()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

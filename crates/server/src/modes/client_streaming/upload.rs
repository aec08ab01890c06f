//! Uploads that can be resumed.
//!
//! Copy: only a message that says so commits. The end of the stream does not: a
//! client that cancels looks the same. What writes is a task of its own, so a
//! call that is cut at any await leaves the upload in order. An answer may come
//! before the requests have ended, and a client has to expect it.
//! Leave: the form of names and the repeated `resource_name`, which are
//! ByteStream's; offsets, where it is cheap to begin anew.

use domain::{
    resources::Upload,
    uploads::{Attempt, Begun, Uploads},
};
use shared_proto::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, WriteRequest, WriteResponse,
};
use tonic::{Response, Status, Streaming};

use crate::refused::{Refused, bad_request, out_of_turn};

pub(in crate::modes) async fn write(
    uploads: &Uploads,
    mut requests: Streaming<WriteRequest>,
) -> Result<Response<WriteResponse>, Refused> {
    let first = requests.message().await?;
    let first = first.ok_or_else(|| out_of_turn("the stream ended before it named what to write"))?;
    let upload: Upload = first.resource_name.parse()?;
    let size = upload.blob.size;
    let committed = match uploads.begin(upload, offset(first.write_offset)?).await? {
        Begun::Known => size,
        Begun::Attempt(attempt) => receive(attempt, first, requests).await?,
    };
    Ok(Response::new(WriteResponse { committed_size: wire(committed) }))
}

async fn receive(
    mut attempt: Attempt,
    first: WriteRequest,
    mut requests: Streaming<WriteRequest>,
) -> Result<u64, Refused> {
    let name = first.resource_name.clone();
    let mut request = first;
    loop {
        if !request.resource_name.is_empty() && request.resource_name != name {
            return Err(
                bad_request("resource_name", "resource_name differs from the first request".into()).into()
            );
        }
        attempt.write(offset(request.write_offset)?, request.data).await?;
        if request.finish_write {
            break;
        }
        request = match attempt.meanwhile(requests.message()).await?? {
            Some(request) => request,
            None => return Ok(attempt.pause().await?),
        };
    }
    // A connection that is cut here was cut after the commit was asked for.
    if let Ok(Some(_)) = attempt.meanwhile(requests.message()).await? {
        return Err(out_of_turn("the previous request was the last: it had finish_write").into());
    }
    Ok(attempt.finish().await?)
}

pub(in crate::modes) async fn query(
    uploads: &Uploads,
    request: QueryWriteStatusRequest,
) -> Result<Response<QueryWriteStatusResponse>, Refused> {
    let progress = uploads.progress(&request.resource_name.parse()?).await?;
    let (committed_size, complete) = (wire(progress.committed), progress.complete);
    Ok(Response::new(QueryWriteStatusResponse { committed_size, complete }))
}

fn offset(wire: i64) -> Result<u64, Status> {
    wire.try_into().map_err(|_| bad_request("write_offset", format!("write_offset {wire} is negative")))
}

/// Sizes are limited to far less than what the wire can say.
fn wire(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

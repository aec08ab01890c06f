//! A list in pages.
//!
//! Copy: the token of a page says where the last page ended (AIP-158). So every page
//! costs the same, and a file that is added meanwhile makes no other file appear twice
//! or not at all. The page size that a client requests is bounded.
//! Leave: hexadecimal, which is here because a name may be any text. A token that could
//! reveal or reach something has to be signed, or be a key of your own.

use domain::{
    resources::Source,
    uploads::{Named, Uploads},
};
use shared_proto::fourmodes::v1::{
    DeleteFileRequest, DeleteFileResponse, File, ListFilesRequest, ListFilesResponse,
};

use crate::refused::{Refused, bad_request};

pub(super) async fn list(uploads: &Uploads, request: ListFilesRequest) -> Result<ListFilesResponse, Refused> {
    let ListFilesRequest { page_size, page_token } = request;
    let most = match usize::try_from(page_size) {
        Ok(0) => 100,
        Ok(size) => size.min(1000),
        Err(_) => return Err(bad_request("page_size", format!("page_size {page_size} is negative")).into()),
    };
    let after = last_of(&page_token)
        .ok_or_else(|| bad_request("page_token", "page_token is not from this server".to_owned()))?;
    // One file more than the page has shows whether there is another page.
    let mut listed = uploads.list(&after, most + 1).await?;
    let more = listed.len() > most;
    listed.truncate(most);
    let next_page_token = listed.last().filter(|_| more).map(|(last, _)| token(last)).unwrap_or_default();
    Ok(ListFilesResponse { files: listed.into_iter().map(file).collect(), next_page_token })
}

pub(super) async fn delete(
    uploads: &Uploads,
    request: DeleteFileRequest,
) -> Result<DeleteFileResponse, Refused> {
    let DeleteFileRequest { name, resource_name } = request;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let name = given(&name).map(|name| format!("files/{name}").parse::<Source>()).transpose()?;
    let blob = given(&resource_name).map(|blob| blob.parse()).transpose()?;
    match (name, blob) {
        (Some(Source::File(name)), blob) => uploads.remove(&name, blob).await?,
        (_, Some(blob)) => uploads.remove_content(blob).await?,
        _ => return Err(bad_request("name", "a name or a resource_name is required".to_owned()).into()),
    }
    Ok(DeleteFileResponse {})
}

/// The name of the last file of a page, in hexadecimal: the token is opaque to clients.
fn token(last: &str) -> String {
    last.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn last_of(token: &str) -> Option<String> {
    let digits: Option<Vec<_>> = token.chars().map(|digit| digit.to_digit(16)).collect();
    let (bytes, []) = digits.as_deref()?.as_chunks() else { return None };
    String::from_utf8(bytes.iter().map(|[high, low]| (high << 4 | low) as u8).collect()).ok()
}

fn file((name, Named { blob, time }): (String, Named)) -> File {
    File {
        name,
        resource_name: blob.to_string(),
        size_bytes: blob.size,
        blake3: blob.hash().to_string(),
        commit_time: Some(time.into()),
    }
}

//! What the demonstrations upload and download. It has no name, so it is in no
//! listing; it is the same each time, so there is only one of it.

use blake3::Hash;
use bytes::Bytes;

pub(super) fn content() -> (Bytes, Hash) {
    let content = Bytes::from("A line of the file that shows how to upload.\n".repeat(60));
    let hash = blake3::hash(&content);
    (content, hash)
}

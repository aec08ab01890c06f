//! Headers, as the runner has them and as they are on the wire.

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Status, metadata::MetadataMap};

use crate::proto::Header;

/// # Errors
///
/// INVALID_ARGUMENT for what can be no header.
pub(crate) fn on_wire(headers: &[Header]) -> Result<HeaderMap, Status> {
    let bad = |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
    let mut map = HeaderMap::new();
    for Header { name, value } in headers {
        let name = HeaderName::try_from(name).map_err(|error| bad(&error))?;
        for value in value {
            map.append(&name, HeaderValue::try_from(value).map_err(|error| bad(&error))?);
        }
    }
    Ok(map)
}

pub(crate) fn of(metadata: &MetadataMap) -> Vec<Header> {
    let headers = metadata.clone().into_headers();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let values = |name: &HeaderName| headers.get_all(name).iter().map(text).collect();
    headers.keys().map(|name| Header { name: name.to_string(), value: values(name) }).collect()
}

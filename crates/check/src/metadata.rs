//! Metadata, in both directions.

use http::{HeaderMap, HeaderName, HeaderValue};
use shared_proto::fourmodes::v1 as pb;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use transport::USER_AGENT;

use crate::{
    Group,
    check::Check,
    outcome::{Checked, Outcome, Size},
    path::{Path, seen},
    remedies,
    script::{binary, text},
    wire_error::WireError,
};

pub(crate) const CHECKS: [Check; 6] = [
    Check::new(Group::Metadata, "ascii", |path| Box::pin(ascii(path))),
    Check::new(Group::Metadata, "names", |path| Box::pin(names(path))),
    Check::new(Group::Metadata, "binary", |path| Box::pin(in_binary(path))),
    Check::new(Group::Metadata, "repeated", |path| Box::pin(repeated(path))),
    Check::new(Group::Metadata, "8-kib", |path| Box::pin(large(path))),
    Check::new(Group::Metadata, "changes", |path| Box::pin(changes(path))),
];

const DROPPED: &str = "a hop on the path drops or changes metadata";

/// Sends entries both ways, and returns what arrived of them: at the server and
/// here.
async fn there_and_back(
    path: &Path,
    entries: &[pb::MetadataEntry],
) -> Result<(Vec<pb::MetadataEntry>, HeaderMap), WireError> {
    let script = pb::Script { initial_metadata: entries.to_vec(), ..pb::Script::default() };
    let mut metadata = HeaderMap::new();
    for entry in entries {
        let name = HeaderName::from_bytes(entry.key.as_bytes());
        let value = match entry.key.ends_with("-bin") {
            true => {
                HeaderValue::from_bytes(BinaryMetadataValue::from_bytes(&entry.binary).as_encoded_bytes())
            }
            false => HeaderValue::from_str(&entry.text),
        };
        if let (Ok(name), Ok(value)) = (name, value) {
            metadata.append(name, value);
        }
    }
    let answer = path.unary_with(metadata, script).await?;
    Ok((seen(answer.message.observation)?.metadata, answer.head))
}

/// Whether one entry arrived in both directions, in words if not.
fn missing<T: PartialEq>(at_server: &[T], here: &[T], sent: &[T]) -> Option<&'static str> {
    match (at_server == sent, here == sent) {
        (true, true) => None,
        (false, true) => Some("lost on the way to the server"),
        (true, false) => Some("lost on the way back"),
        (false, false) => Some("lost in both directions"),
    }
}

fn text_of<'a>(entries: &'a [pb::MetadataEntry], key: &str) -> Vec<&'a str> {
    entries.iter().filter(|entry| entry.key == key).map(|entry| entry.text.as_str()).collect()
}

fn text_here<'a>(head: &'a HeaderMap, key: &str) -> Vec<&'a str> {
    head.get_all(key).iter().map(|value| value.to_str().unwrap_or_default()).collect()
}

/// The values of a key that ends in `-bin`.
pub(crate) fn binary_of(head: &HeaderMap, key: &str) -> Vec<Vec<u8>> {
    let metadata = MetadataMap::from_headers(head.clone());
    metadata
        .get_all_bin(key)
        .iter()
        .map(|value| value.to_bytes().map(Into::into).unwrap_or_default())
        .collect()
}

async fn ascii(path: &Path) -> Checked {
    const VALUE: &str = "words, punctuation; \"quotes\" ~!@#$^&*()=+[]{}|<>?/";
    let (server, head) = there_and_back(path, &[text("x-check", VALUE)]).await?;
    match missing(&text_of(&server, "x-check"), &text_here(&head, "x-check"), &[VALUE]) {
        None => Ok(Outcome::pass("the same in both directions")),
        Some(lost) => Ok(Outcome::fail(lost, DROPPED, remedies::METADATA)),
    }
}

/// gRPC allows more in a key than HTTP's own names have.
async fn names(path: &Path) -> Checked {
    const KEYS: [&str; 2] = ["x_check_underscore", "x.check.dot"];
    let entries = KEYS.map(|key| text(key, "here"));
    let (server, head) = there_and_back(path, &entries).await?;
    let lost: Vec<_> = KEYS
        .into_iter()
        .filter_map(|key| {
            let lost = missing(&text_of(&server, key), &text_here(&head, key), &["here"])?;
            Some(format!("{key} {lost}"))
        })
        .collect();
    match lost.is_empty() {
        true => Ok(Outcome::pass("underscores and dots in keys arrive")),
        false => {
            let cause = "a hop on the path drops unusual header names";
            Ok(Outcome::warn(lost.join(", "), cause, remedies::METADATA))
        }
    }
}

async fn in_binary(path: &Path) -> Checked {
    let every_byte: Vec<u8> = (0..=255).collect();
    let (server, head) = there_and_back(path, &[binary("x-check-bin", &every_byte)]).await?;
    let at_server = server.into_iter().filter(|entry| entry.key == "x-check-bin");
    let at_server: Vec<_> = at_server.map(|entry| entry.binary).collect();
    match missing(&at_server, &binary_of(&head, "x-check-bin"), &[every_byte]) {
        None => Ok(Outcome::pass("256 of 256 values of a byte, in both directions")),
        Some(lost) => Ok(Outcome::fail(lost, DROPPED, remedies::METADATA)),
    }
}

/// A key may come several times. That the values come as one, with commas, is
/// the same for HTTP.
async fn repeated(path: &Path) -> Checked {
    const VALUES: [&str; 3] = ["a", "b", "c"];
    let (server, head) = there_and_back(path, &VALUES.map(|value| text("x-check", value))).await?;
    let (at_server, here) = (text_of(&server, "x-check"), text_here(&head, "x-check"));
    let apart = |values: &[&str]| -> Vec<String> {
        values.iter().flat_map(|value| value.split(',')).map(|value| value.trim().to_owned()).collect()
    };
    let is_joined = at_server.len() != 3 || here.len() != 3;
    match missing(&apart(&at_server), &apart(&here), &VALUES.map(str::to_owned)) {
        None if is_joined => Ok(Outcome::pass("3 of 3 values, joined by commas")),
        None => Ok(Outcome::pass("3 of 3 values, in their order")),
        Some(lost) => Ok(Outcome::fail(lost, DROPPED, remedies::METADATA)),
    }
}

/// What every path should bear: half of what most servers do.
async fn large(path: &Path) -> Checked {
    const COUNT: usize = 16;
    let entries: Vec<_> = (0..COUNT).map(|i| text(&format!("x-check-{i}"), &"v".repeat(512))).collect();
    let limit = path.limits().max_header_list_bytes;
    if limit < 12 << 10 {
        return Ok(Outcome::skip(format!("the server takes only {} of headers", Size(limit.into()))));
    }
    let fails = |figure| {
        Outcome::fail(figure, "a hop on the path limits headers to less than 8 KiB", remedies::HEADERS)
    };
    let (server, head) = match there_and_back(path, &entries).await {
        Ok(came) => came,
        Err(lost) => return Ok(fails(lost.to_string())),
    };
    let there = server.iter().filter(|entry| entries.contains(entry)).count();
    let here = entries.iter().filter(|entry| text_here(&head, &entry.key) == [entry.text.as_str()]).count();
    let figure = format!("{there} of {COUNT} entries to the server, {here} back, 512 bytes each");
    match there + here == 2 * COUNT {
        true => Ok(Outcome::pass(figure)),
        false => Ok(fails(figure)),
    }
}

/// What somebody on the path says of itself, or keeps to itself.
async fn changes(path: &Path) -> Checked {
    let sent = [("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", USER_AGENT)];
    let (server, _) = there_and_back(path, &[]).await?;
    let is_ours = |key: &str| {
        sent.iter().any(|(name, _)| *name == key)
            || ["traceparent", "authorization"].contains(&key)
            || key.starts_with(':')
    };
    let added: Vec<_> =
        server.iter().filter(|entry| !is_ours(&entry.key)).map(|entry| entry.key.as_str()).collect();
    let changed: Vec<_> = sent
        .into_iter()
        .filter_map(|(key, value)| match text_of(&server, key)[..] {
            [came] if came == value => None,
            [] => Some(format!("{key} removed")),
            [came, ..] => Some(format!("{key} is {came}")),
        })
        .collect();
    let added = match added.is_empty() {
        true => "nothing added".to_owned(),
        false => format!("added: {}", added.join(", ")),
    };
    match changed.is_empty() {
        true => Ok(Outcome::pass(format!("{added}, nothing removed"))),
        false => Ok(Outcome::warn(
            format!("{added}, {}", changed.join(", ")),
            "a hop on the path removes headers that servers read",
            remedies::METADATA,
        )),
    }
}

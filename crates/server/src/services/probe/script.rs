//! A script as it is on the wire, and as one that may be performed.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use shared_proto::fourmodes::v1::{self as pb, ending::Kind};
use tonic::{Code, Status, metadata::BinaryMetadataValue};
use tonic_types::pb::Status as RichStatus;
use uuid::Uuid;

use crate::refused::bad_request;

const LONGEST: Duration = Duration::from_secs(3600);
const MOST_STEPS: usize = 1024;
const MOST_MESSAGES: u64 = 1 << 20;
const MOST_BYTES: u64 = 256 << 20;
const MOST_PAYLOAD: u32 = 16 << 20;
const MOST_ENTRIES: usize = 64;
const MOST_METADATA: usize = 16 << 10;
const MOST_TEXT: usize = 4 << 10;
const MOST_DETAILS: usize = 8;
const MOST_DETAIL_BYTES: usize = 8 << 10;

/// Those of HTTP that a response has of itself, or that are about a connection.
const HTTPS_OWN: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) call_id: Option<Uuid>,
    pub(super) head_delay: Duration,
    pub(super) read_delay: Duration,
    pub(super) steps: Vec<Step>,
    pub(super) ending: Ending,
    pub(super) initial_metadata: HeaderMap,
    pub(super) trailing_metadata: HeaderMap,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) repeat: u32,
    pub(super) delay: Duration,
    pub(super) source: Source,
}

#[derive(Debug)]
pub(super) enum Source {
    Echo,
    Made { length: usize, compressible: bool },
}

impl Step {
    /// The payload of each of its messages; empty for one that echoes.
    pub(super) fn payload(&self) -> Bytes {
        let Source::Made { length, compressible } = self.source else { return Bytes::new() };
        let mut bytes = vec![0; length];
        if !compressible {
            // Always the same ones, so that a run can be repeated.
            fastrand::Rng::with_seed(1).fill(&mut bytes);
        }
        bytes.into()
    }
}

#[derive(Debug)]
pub(super) enum Ending {
    AfterHalfClose { with_observation: bool },
    Status(Status),
    Reset(Reason),
    Stall(Duration),
}

impl Default for Ending {
    fn default() -> Self {
        Self::AfterHalfClose { with_observation: false }
    }
}

impl Script {
    /// # Errors
    ///
    /// INVALID_ARGUMENT with the field that breaks a rule.
    pub(super) fn new(wire: Option<pb::Script>, client_streams: bool) -> Result<Self, Status> {
        let Some(wire) = wire else { return Ok(Self::default()) };
        let steps = steps(wire.steps)?;
        if let Some(place) = steps.iter().position(|step| matches!(step.source, Source::Echo))
            && !client_streams
        {
            return Err(wrong(&format!("steps[{place}].echo"), "needs a client that streams"));
        }
        Ok(Self {
            call_id: match wire.call_id.as_str() {
                "" => None,
                id => Some(id.parse().map_err(|_| wrong("call_id", "is no UUID"))?),
            },
            head_delay: duration(wire.head_delay, "head_delay")?,
            read_delay: duration(wire.read_delay, "read_delay")?,
            steps,
            ending: ending(wire.ending.and_then(|ending| ending.kind))?,
            initial_metadata: metadata(wire.initial_metadata, "initial_metadata")?,
            trailing_metadata: metadata(wire.trailing_metadata, "trailing_metadata")?,
        })
    }

    /// How many messages of the client it wants to have.
    pub(super) fn echoes(&self) -> u64 {
        let echoing = self.steps.iter().filter(|step| matches!(step.source, Source::Echo));
        echoing.map(|step| u64::from(step.repeat)).sum()
    }
}

fn wrong(field: &str, why: &str) -> Status {
    let field = format!("script.{field}");
    bad_request(&field, format!("{field} {why}"))
}

fn duration(wire: Option<prost_types::Duration>, field: &str) -> Result<Duration, Status> {
    let Some(wire) = wire else { return Ok(Duration::ZERO) };
    match shared_proto::duration(&wire) {
        Some(duration) if duration <= LONGEST => Ok(duration),
        _ => Err(wrong(field, "must be between 0 s and 1 h")),
    }
}

fn steps(wire: Vec<pb::Step>) -> Result<Vec<Step>, Status> {
    if wire.len() > MOST_STEPS {
        return Err(wrong("steps", &format!("are {}, and {MOST_STEPS} at most", wire.len())));
    }
    let (mut messages, mut bytes) = (0_u64, 0_u64);
    let mut steps = Vec::with_capacity(wire.len());
    for (place, step) in wire.into_iter().enumerate() {
        let field = |name| format!("steps[{place}].{name}");
        let repeat = step.repeat.max(1);
        if step.payload_bytes > MOST_PAYLOAD {
            return Err(wrong(&field("payload_bytes"), "is more than 16 MiB"));
        }
        if step.echo && (step.payload_bytes > 0 || step.compressible) {
            return Err(wrong(&field("echo"), "and a payload of its own exclude each other"));
        }
        messages += u64::from(repeat);
        let length = u64::from(step.payload_bytes);
        bytes = bytes.saturating_add(u64::from(repeat).saturating_mul(length));
        steps.push(Step {
            repeat,
            delay: duration(step.delay, &field("delay"))?,
            source: match step.echo {
                true => Source::Echo,
                false => {
                    Source::Made { length: step.payload_bytes as usize, compressible: step.compressible }
                }
            },
        });
    }
    if messages > MOST_MESSAGES {
        return Err(wrong("steps", &format!("send {messages} messages, and {MOST_MESSAGES} at most")));
    }
    if bytes > MOST_BYTES {
        return Err(wrong("steps", &format!("send {bytes} bytes, and 256 MiB at most")));
    }
    Ok(steps)
}

fn metadata(wire: Vec<pb::MetadataEntry>, field: &str) -> Result<HeaderMap, Status> {
    if wire.len() > MOST_ENTRIES {
        return Err(wrong(field, &format!("has {} entries, and {MOST_ENTRIES} at most", wire.len())));
    }
    let length: usize =
        wire.iter().map(|entry| entry.key.len() + entry.text.len() + entry.binary.len()).sum();
    if length > MOST_METADATA {
        return Err(wrong(field, &format!("has {length} bytes, and 16 KiB at most")));
    }
    let mut headers = HeaderMap::new();
    for (place, pb::MetadataEntry { key, text, binary }) in wire.into_iter().enumerate() {
        let field = |name| format!("{field}[{place}].{name}");
        let is_reserved = key.starts_with("grpc-") || HTTPS_OWN.contains(&key.as_str());
        // Reads upper case as well, which HTTP/2 does not have.
        let name = HeaderName::from_lowercase(key.as_bytes()).ok().filter(|_| !is_reserved);
        let name = name.ok_or_else(|| wrong(&field("key"), "is not a valid metadata key"))?;
        let is_binary = key.ends_with("-bin");
        let value = match is_binary {
            true if !text.is_empty() => {
                return Err(wrong(&field("text"), "belongs to a key that ends in `-bin`: use `binary`"));
            }
            false if !binary.is_empty() => {
                return Err(wrong(&field("binary"), "belongs to a key that does not end in `-bin`"));
            }
            true => HeaderValue::from_bytes(BinaryMetadataValue::from_bytes(&binary).as_encoded_bytes()).ok(),
            // What gRPC takes for ASCII, and no tabs.
            false => text
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~'))
                .then(|| HeaderValue::from_str(&text).ok())
                .flatten(),
        };
        headers.append(name, value.ok_or_else(|| wrong(&field("text"), "is no printable ASCII"))?);
    }
    Ok(headers)
}

fn ending(wire: Option<Kind>) -> Result<Ending, Status> {
    Ok(match wire {
        None => Ending::default(),
        Some(Kind::AfterHalfClose(pb::AfterHalfClose { with_observation })) => {
            Ending::AfterHalfClose { with_observation }
        }
        Some(Kind::Status(wire)) => Ending::Status(status(wire)?),
        Some(Kind::ResetCode(code @ 0..=13)) => Ending::Reset(code.into()),
        Some(Kind::ResetCode(_)) => {
            return Err(wrong("ending.reset_code", "is not an HTTP/2 error code (0 to 13)"));
        }
        Some(Kind::Stall(wire)) => Ending::Stall(duration(Some(wire), "ending.stall")?),
    })
}

fn status(wire: pb::EndStatus) -> Result<Status, Status> {
    let pb::EndStatus { code, message, details } = wire;
    if !(0..=16).contains(&code) {
        return Err(wrong("ending.status.code", "is no code of gRPC: 0 to 16"));
    }
    if message.len() > MOST_TEXT {
        return Err(wrong("ending.status.message", "has more than 4 KiB"));
    }
    let length: usize = details.iter().map(prost::Message::encoded_len).sum();
    if details.len() > MOST_DETAILS || length > MOST_DETAIL_BYTES {
        return Err(wrong("ending.status.details", "are more than 8, or more than 8 KiB together"));
    }
    if details.is_empty() {
        return Ok(Status::new(Code::from_i32(code), message));
    }
    let rich = RichStatus { code, message: message.clone(), details };
    Ok(Status::with_details(Code::from_i32(code), message, rich.encode_to_vec().into()))
}

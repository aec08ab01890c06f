//! Scripts for the probe, in few words.

use std::time::Duration;

use shared_proto::fourmodes::v1::{
    AfterHalfClose, EndStatus, Ending, MetadataEntry, Script, Step, ending::Kind,
};
use tonic::Code;

/// Answers with these steps, and ends as the mode has it.
pub(crate) fn steps(steps: impl Into<Vec<Step>>) -> Script {
    Script { steps: steps.into(), ..Script::default() }
}

/// `count` messages, each after `delay`.
pub(crate) fn every(delay: Duration, count: u32) -> Step {
    Step { repeat: count, delay: wire(delay), payload_bytes: 16, ..Step::default() }
}

/// A message of so many bytes.
pub(crate) fn payload(bytes: u32) -> Step {
    Step { payload_bytes: bytes, ..Step::default() }
}

/// `count` messages of the client, each returned.
pub(crate) fn echo(count: u32) -> Step {
    Step { repeat: count, echo: true, ..Step::default() }
}

pub(crate) fn status(code: Code, message: &str) -> Option<Ending> {
    let status = EndStatus { code: code as i32, message: message.to_owned(), details: Vec::new() };
    Some(Ending { kind: Some(Kind::Status(status)) })
}

/// By RST_STREAM.
pub(crate) fn reset(code: u32) -> Option<Ending> {
    Some(Ending { kind: Some(Kind::ResetCode(code)) })
}

pub(crate) fn stall(time: Duration) -> Option<Ending> {
    wire(time).map(|time| Ending { kind: Some(Kind::Stall(time)) })
}

/// When the client has ended its half, with what was seen.
pub(crate) fn told() -> Option<Ending> {
    Some(Ending { kind: Some(Kind::AfterHalfClose(AfterHalfClose { with_observation: true })) })
}

pub(crate) fn text(key: &str, text: &str) -> MetadataEntry {
    MetadataEntry { key: key.to_owned(), text: text.to_owned(), binary: Vec::new() }
}

pub(crate) fn binary(key: &str, binary: &[u8]) -> MetadataEntry {
    MetadataEntry { key: key.to_owned(), text: String::new(), binary: binary.to_owned() }
}

fn wire(time: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(time).ok()
}

/// What stands in a response; a negative one is none.
pub(crate) fn read(time: &prost_types::Duration) -> Duration {
    shared_proto::duration(time).unwrap_or_default()
}

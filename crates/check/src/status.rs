//! Whether the end of a call arrives as the server meant it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use grpc_wire::code_name;
use h2::Reason;
use prost::Message as _;
use prost_types::Any;
use shared_proto::fourmodes::v1 as pb;
use tonic::{Code, Status};
use tonic_types::pb::{DebugInfo, ErrorInfo};

use crate::{
    Group,
    check::Check,
    metadata::binary_of,
    outcome::{Checked, Outcome},
    path::{Path, UNARY},
    remedies,
    script::{self, binary, text},
    wire::Wire,
    wire_error::WireError,
};

pub(crate) const CHECKS: [Check; 6] = [
    Check::new(Group::Status, "codes", |path| Box::pin(codes(path))),
    Check::new(Group::Status, "message", |path| Box::pin(message(path))),
    Check::new(Group::Status, "details", |path| Box::pin(details(path))),
    Check::new(Group::Status, "trailers-only", |path| Box::pin(trailers_only(path))),
    Check::new(Group::Status, "after-messages", |path| Box::pin(after_messages(path))),
    Check::new(Group::Status, "trailing-metadata", |path| Box::pin(trailing_metadata(path))),
];

const CHANGED: &str = "a hop on the path replaces the server's status";

/// All of them, by calls that have nothing but a status.
async fn codes(path: &Path) -> Checked {
    let mut wire = path.open().await?;
    changed_codes(async |code| match asked(&wire, code).await {
        // A hop replaces its connections in order.
        Err(WireError::GoAway(Reason::NO_ERROR, _)) => {
            wire = path.open().await?;
            asked(&wire, code).await
        }
        answered => answered,
    })
    .await
}

async fn asked(wire: &Wire, code: Code) -> Result<Status, WireError> {
    let script = pb::Script { ending: script::status(code, "as asked"), ..pb::Script::default() };
    let mut call = wire.call::<_, pb::UnaryResponse>(UNARY, http::HeaderMap::new()).await?;
    call.ask(&pb::UnaryRequest { script: Some(script), ..pb::UnaryRequest::default() }).await;
    Ok(call.end().await?.0)
}

/// Some proxies change one end in thirty (Go's ReverseProxy with `FlushInterval: -1`), so a
/// near path is asked for all of them again and again.
pub(crate) async fn changed_codes(mut ask: impl AsyncFnMut(Code) -> Result<Status, WireError>) -> Checked {
    const ROUNDS: i32 = 12;
    const ENOUGH: Duration = Duration::from_secs(5);
    let begun = Instant::now();
    // By what came, those that were sent.
    let mut changed = BTreeMap::<String, Vec<&str>>::new();
    let mut advice = (CHANGED, remedies::STATUS);
    for number in 0..17 * ROUNDS {
        if number >= 17 && (begun.elapsed() > ENOUGH || number % 17 == 0 && !changed.is_empty()) {
            break;
        }
        let code = Code::from_i32(number % 17);
        let came = match ask(code).await {
            Ok(status) if status.code() == code => continue,
            Ok(status) => code_name(status.code()).to_owned(),
            Err(lost @ WireError::StatusInHead(_)) => {
                advice = lost.advice();
                "a status in headers that do not end the stream".to_owned()
            }
            Err(lost) => {
                advice = lost.advice();
                lost.to_string()
            }
        };
        changed.entry(came).or_default().push(code_name(code));
    }
    let count = changed.values().map(Vec::len).sum::<usize>();
    let as_what = |(came, sent): (&String, &Vec<_>)| format!("{} as {came}", sent.join(", "));
    match count {
        0 => Ok(Outcome::pass("17 of 17 unchanged")),
        _ => {
            let all = changed.iter().map(as_what).collect::<Vec<_>>().join("; ");
            Ok(Outcome::fail(format!("{count} of 17 changed: {all}"), advice.0, advice.1))
        }
    }
}

/// What is percent-encoded on the wire.
pub(crate) const MESSAGE: &str = "Grüße, 世界\nund 100 % more\tпока: %41";

async fn message(path: &Path) -> Checked {
    let status = refused(path, script::status(Code::NotFound, MESSAGE)).await?;
    same_message(&status)
}

pub(crate) fn same_message(status: &Status) -> Checked {
    match status.message() == MESSAGE {
        true => Ok(Outcome::pass("non-ASCII, newlines and % arrived")),
        false => Ok(Outcome::fail(format!("arrived as {:?}", status.message()), CHANGED, remedies::STATUS)),
    }
}

async fn details(path: &Path) -> Checked {
    let any = |name: &str, value: Vec<u8>| Any {
        type_url: format!("type.googleapis.com/google.rpc.{name}"),
        value,
    };
    let info = ErrorInfo {
        reason: "AS_ASKED".to_owned(),
        domain: "check".to_owned(),
        metadata: [("key".to_owned(), "Wert ü".to_owned())].into(),
    };
    let debug = DebugInfo { stack_entries: vec!["frame".to_owned(); 3], detail: "d".repeat(2048) };
    let sent = vec![any("ErrorInfo", info.encode_to_vec()), any("DebugInfo", debug.encode_to_vec())];
    let ending =
        pb::EndStatus { code: Code::Aborted as i32, message: "as asked".to_owned(), details: sent.clone() };
    let ending = pb::Ending { kind: Some(pb::ending::Kind::Status(ending)) };
    let status = refused(path, Some(ending)).await?;
    let came = tonic_types::pb::Status::decode(status.details()).map(|status| status.details);
    match came {
        Ok(came) if came == sent => Ok(Outcome::pass("2 details, 2.1 KiB")),
        Ok(came) => {
            let figure = format!("{} of {} details arrived", came.len(), sent.len());
            Ok(Outcome::fail(figure, "a hop on the path drops `grpc-status-details-bin`", remedies::METADATA))
        }
        Err(_) => Ok(Outcome::fail(
            "the details cannot be read",
            "a hop on the path changes `grpc-status-details-bin`",
            remedies::METADATA,
        )),
    }
}

/// A call that has nothing but an end has one header block.
async fn trailers_only(path: &Path) -> Checked {
    let script = pb::Script {
        ending: script::status(Code::NotFound, "as asked"),
        trailing_metadata: vec![text("x-check", "here")],
        ..pb::Script::default()
    };
    let mut call = path.alone::<_, pb::UnaryResponse>(UNARY, http::HeaderMap::new()).await?;
    call.ask(&pb::UnaryRequest { script: Some(script), ..pb::UnaryRequest::default() }).await;
    let (status, trailers) = call.end().await?;
    let figure = match call.is_trailers_only() {
        true => "as one header block",
        false => "as headers and trailers",
    };
    if status.code() != Code::NotFound || status.message() != "as asked" {
        let figure = WireError::Status(Box::new(status)).to_string();
        return Ok(Outcome::fail(figure, CHANGED, remedies::STATUS));
    }
    match trailers.get("x-check").is_some_and(|value| value == "here") {
        true => Ok(Outcome::pass(figure)),
        false => Ok(Outcome::fail(
            format!("{figure}, without their metadata"),
            "a hop on the path drops metadata that accompanies a status",
            remedies::METADATA,
        )),
    }
}

async fn after_messages(path: &Path) -> Checked {
    let script = pb::Script {
        ending: script::status(Code::Aborted, "as asked"),
        ..script::steps([pb::Step { repeat: 3, ..script::payload(100) }])
    };
    let mut call = path.server_streaming(script).await?;
    let mut count = 0;
    while call.next().await?.is_some() {
        count += 1;
    }
    three_then_aborted(count, &call.end().await?.0)
}

pub(crate) fn three_then_aborted(count: u32, status: &Status) -> Checked {
    let figure = format!("{count} of 3 messages, then {}", code_name(status.code()));
    match (count, status.code(), status.message()) {
        (3, Code::Aborted, "as asked") => Ok(Outcome::pass(figure)),
        _ => Ok(Outcome::fail(figure, CHANGED, remedies::STATUS)),
    }
}

async fn trailing_metadata(path: &Path) -> Checked {
    let script = pb::Script {
        trailing_metadata: vec![text("x-check", "after all"), binary("x-check-bin", &[0, 255, 10])],
        ..script::steps([script::payload(100)])
    };
    let trailers = path.server_streaming(script).await?.end_well().await?;
    let has_text = trailers.get("x-check").is_some_and(|value| value == "after all");
    let has_binary = binary_of(&trailers, "x-check-bin") == [[0, 255, 10]];
    match (has_text, has_binary) {
        (true, true) => Ok(Outcome::pass("2 of 2 entries after the last message")),
        (has_text, has_binary) => Ok(Outcome::fail(
            format!("{} of 2 entries after the last message", u8::from(has_text) + u8::from(has_binary)),
            "a hop on the path drops or changes trailers",
            remedies::TRAILERS,
        )),
    }
}

/// The status of a unary call that ends with it.
async fn refused(path: &Path, ending: Option<pb::Ending>) -> Result<Status, WireError> {
    let mut call = path.alone::<_, pb::UnaryResponse>(UNARY, http::HeaderMap::new()).await?;
    let script = pb::Script { ending, ..pb::Script::default() };
    call.ask(&pb::UnaryRequest { script: Some(script), ..pb::UnaryRequest::default() }).await;
    Ok(call.end().await?.0)
}

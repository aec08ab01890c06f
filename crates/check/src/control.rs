//! Whether both sides stay in control of a call.

use std::{
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use grpc_wire::http2_error;
use h2::Reason;
use http::{HeaderMap, HeaderValue};
use shared_proto::fourmodes::v1 as pb;
use tokio::{task::JoinSet, time::timeout};
use uuid::Uuid;

use crate::{
    Group,
    check::Check,
    modes::milliseconds,
    outcome::{Checked, Outcome},
    path::{Path, SERVER_STREAMING, UNARY, seen},
    remedies, script,
    wire::within,
    wire_error::WireError,
};

pub(crate) const CHECKS: [Check; 5] = [
    Check::new(Group::Control, "deadline", |path| Box::pin(deadline(path))),
    Check::new(Group::Control, "no-deadline", |path| Box::pin(no_deadline(path))),
    Check::new(Group::Control, "cancel", |path| Box::pin(cancel(path))),
    Check::new(Group::Control, "60-cancels", |path| Box::pin(cancels(path))),
    // Some proxies have one connection to the server for all, and Go's takes no further call on
    // it after PROTOCOL_ERROR.
    Check::new(Group::Control, "reset", |path| Box::pin(reset(path))).heavy(),
];

async fn deadline(path: &Path) -> Checked {
    const SENT: Duration = Duration::from_secs(20);
    let mut metadata = HeaderMap::new();
    metadata.insert("grpc-timeout", HeaderValue::from_static("20000m"));
    let begun = Instant::now();
    let answer = path.unary_with(metadata, script::steps([])).await?;
    // Proxies that count may take off what they took themselves.
    let (earliest, slack) = (SENT.saturating_sub(begun.elapsed()), Duration::from_millis(100));
    let Some(came) = seen(answer.message.observation)?.deadline.as_ref().map(script::read) else {
        let cause = "a hop on the path drops `grpc-timeout`: the server continues abandoned calls";
        return Ok(Outcome::fail("none of 20 s arrived", cause, remedies::DEADLINE));
    };
    let figure = format!("{:.2} s of 20 s on arrival", came.as_secs_f64());
    if came + slack < earliest {
        let cause = "a hop on the path sets a shorter deadline";
        return Ok(Outcome::fail(figure, cause, remedies::DEADLINE));
    }
    if came > SENT {
        let cause = "a hop on the path extends the deadline: the server continues abandoned calls";
        return Ok(Outcome::fail(figure, cause, remedies::DEADLINE));
    }
    Ok(Outcome::pass(figure))
}

async fn no_deadline(path: &Path) -> Checked {
    let answer = path.unary(script::steps([])).await?;
    match seen(answer.message.observation)?.deadline.as_ref().map(script::read) {
        None => Ok(Outcome::pass("none sent, none arrived")),
        Some(came) => Ok(Outcome::warn(
            format!("{:.2} s arrived where none was sent", came.as_secs_f64()),
            "a hop on the path adds a deadline, which ends long streams",
            remedies::DEADLINE,
        )),
    }
}

/// The client goes, and the server has to know.
async fn cancel(path: &Path) -> Checked {
    let patience = path.answer();
    let id = Uuid::new_v4();
    let script = pb::Script {
        call_id: id.to_string(),
        ending: script::stall(Duration::from_secs(60)),
        ..script::steps([script::payload(16)])
    };
    // The connection stays: its end would say the same.
    let wire = path.open().await?;
    let mut call = wire.call::<_, pb::ServerStreamingResponse>(SERVER_STREAMING, HeaderMap::new()).await?;
    call.ask(&pb::ServerStreamingRequest { script: Some(script), ..Default::default() }).await;
    call.next().await?;
    let begun = Instant::now();
    drop(call);
    let seen = path.observe(id, patience, |seen| seen.cancelled.is_some()).await?;
    let time = begun.elapsed();
    match seen {
        None => Ok(Outcome::skip("another instance answered the query")),
        Some(seen) if seen.cancelled.is_some() => {
            Ok(Outcome::pass(format!("the server saw it within {}", milliseconds(time))))
        }
        Some(_) => Ok(Outcome::fail(
            format!("the server did not see it within {} s", patience.as_secs()),
            "a hop on the path drops cancels: the server continues abandoned calls",
            remedies::CANCEL,
        )),
    }
}

/// Many clients go at once, as when a page is closed: the connection has to live on, for
/// the others on it.
async fn cancels(path: &Path) -> Checked {
    const CALLS: u32 = 60;
    const AGAIN: Duration = Duration::from_millis(10);
    let calls = CALLS.min(path.limits().max_concurrent_streams);
    let wire = Rc::new(path.open().await?);
    let mut asked = JoinSet::new();
    for _ in 0..calls {
        let wire = wire.clone();
        asked.spawn_local(async move {
            let script = pb::Script {
                ending: script::stall(Duration::from_secs(60)),
                ..script::steps([script::payload(16)])
            };
            let mut call =
                wire.call::<_, pb::ServerStreamingResponse>(SERVER_STREAMING, HeaderMap::new()).await?;
            call.ask(&pb::ServerStreamingRequest { script: Some(script), ..Default::default() }).await;
            call.next().await?;
            Ok::<_, WireError>(call)
        });
    }
    // A path may let fewer through at once; the others wait.
    let mut open = Vec::new();
    while let Ok(Some(call)) = timeout(path.answer(), asked.join_next()).await {
        if let Ok(call) = call {
            open.push(call?);
        }
    }
    let figure = format!("{} calls cancelled at once", open.len());
    drop((open, asked));
    let request = pb::UnaryRequest { script: Some(script::steps([])), ..pb::UnaryRequest::default() };
    let after = async {
        loop {
            match wire.unary::<pb::UnaryResponse>(UNARY, HeaderMap::new(), &request).await {
                // nginx counts the cancelled ones a moment longer, and refuses what any client may ask again.
                Err(WireError::Reset(Reason::REFUSED_STREAM)) => tokio::time::sleep(AGAIN).await,
                ended => return ended,
            }
        }
    };
    match within(path.answer(), after).await {
        Ok(_) => Ok(Outcome::pass(format!("{figure}, and the connection survives"))),
        Err(lost @ WireError::Silent(_)) => Ok(Outcome::fail(
            format!("{figure}, then {lost} on the next call"),
            "a hop on the path keeps the places of cancelled calls, so that others wait",
            remedies::CANCEL,
        )),
        Err(lost) => Ok(Outcome::fail(
            format!("{figure}, then {lost}"),
            "the server, or a hop on the path, considers so many cancels an attack: all calls of the connection \
             are lost",
            remedies::CANCELS,
        )),
    }
}

/// What ends a call without a status must not look like a good end, and best
/// arrives as what it was.
async fn reset(path: &Path) -> Checked {
    const CODES: [u32; 5] = [1, 2, 7, 8, 11];
    // By what came, those that were sent.
    let mut changed = BTreeMap::<String, Vec<String>>::new();
    let mut lost_ends = Vec::new();
    for code in CODES {
        let script = pb::Script { ending: script::reset(code), ..script::steps([script::payload(16)]) };
        let mut call = path.server_streaming(script).await?;
        let sent = h2::Reason::from(code);
        let came = match call.end().await {
            Err(WireError::Reset(reason)) if reason == sent => continue,
            Err(lost) => lost.to_string(),
            Ok((status, _)) if status.code() == tonic::Code::Ok => {
                lost_ends.push(http2_error(sent.into()));
                continue;
            }
            Ok((status, _)) => WireError::Status(Box::new(status)).to_string(),
        };
        changed.entry(came).or_default().push(http2_error(sent.into()));
    }
    if !lost_ends.is_empty() {
        return Ok(Outcome::fail(
            format!("{} arrived as OK", lost_ends.join(", ")),
            "a hop on the path turns a cut call into a successful one",
            remedies::TRAILERS,
        ));
    }
    match changed.is_empty() {
        true => Ok(Outcome::pass(format!("{} of {} codes unchanged", CODES.len(), CODES.len()))),
        false => Ok(Outcome::warn(
            changed
                .iter()
                .map(|(came, sent)| format!("{}: {came}", sent.join(", ")))
                .collect::<Vec<_>>()
                .join("; "),
            "a hop on the path replaces the reason of a reset call: what may be retried \
             is unknown",
            "most proxies do this; let servers end calls with a status (UNAVAILABLE), which passes",
        )),
    }
}

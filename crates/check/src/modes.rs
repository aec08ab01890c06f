//! Whether each mode works.

use std::time::{Duration, Instant};

use bytes::Bytes;
use shared_proto::fourmodes::v1 as pb;
use tonic::Code;

use crate::{
    Group,
    check::Check,
    flow::zeros,
    outcome::{Checked, Outcome},
    path::{Path, seen},
    remedies, script,
    wire::within,
    wire_error::WireError,
};

pub(crate) const CHECKS: [Check; 8] = [
    Check::new(Group::Modes, "unary", |path| Box::pin(unary(path))),
    Check::new(Group::Modes, "server-streaming", |path| Box::pin(server_streaming(path))),
    Check::new(Group::Modes, "client-streaming", |path| Box::pin(client_streaming(path))),
    Check::new(Group::Modes, "full-duplex", |path| Box::pin(full_duplex(path))),
    Check::new(Group::Modes, "client-ends-first", |path| Box::pin(client_ends_first(path))),
    Check::new(Group::Modes, "server-ends-first", |path| Box::pin(server_ends_first(path))),
    Check::new(Group::Modes, "head-first", |path| Box::pin(head_first(path))),
    Check::new(Group::Modes, "early-answer", |path| Box::pin(early_answer(path))),
];

/// Messages of a stream, and the time between two of them. Long beside what a
/// network makes of it, short beside the patience of a user.
pub(crate) const BEATS: u32 = 5;
pub(crate) const BEAT: Duration = Duration::from_millis(150);

/// What an upload has in a message, in bytes: on a slow path the others of it are not
/// to wait for long.
pub(crate) const CHUNK: u32 = 2 << 10;

async fn unary(path: &Path) -> Checked {
    let begun = Instant::now();
    let answer = path.unary(script::steps([script::payload(1000)])).await?;
    let (bytes, time) = (answer.message.payload.len(), begun.elapsed());
    if bytes != 1000 {
        return Err(WireError::Malformed(format!("{bytes} bytes arrived of 1000")).into());
    }
    Ok(Outcome::pass(format!("answered in {}", milliseconds(time))))
}

async fn server_streaming(path: &Path) -> Checked {
    let mut call = path.server_streaming(script::steps([script::every(BEAT, BEATS)])).await?;
    let (mut arrived, mut sent) = (Vec::new(), Vec::new());
    while let Some(message) = call.next().await? {
        arrived.push(call.begun.elapsed());
        sent.extend(message.sent.as_ref().map(script::read));
    }
    call.end_well().await?;
    as_sent("response", &sent, &arrived)
}

async fn client_streaming(path: &Path) -> Checked {
    let mut call = path.client_streaming(pb::Script::default()).await?;
    let mut sent = vec![call.begun.elapsed()];
    for _ in 1..BEATS {
        tokio::time::sleep(BEAT).await;
        sent.push(call.begun.elapsed());
        call.send(&pb::ClientStreamingRequest { script: None, payload: Bytes::from_static(&[0; 16]) })
            .await?;
    }
    call.half_close()?;
    let answer = call.next().await?.ok_or(WireError::NoStatus)?;
    call.end_well().await?;
    let arrived: Vec<_> = seen(answer.observation)?.arrivals.iter().map(script::read).collect();
    as_sent("request", &sent, &arrived)
}

/// What was sent bit by bit has to arrive bit by bit. Compared are spans of
/// time, so that neither clocks nor the length of the way play a part.
pub(crate) fn as_sent(what: &str, sent: &[Duration], arrived: &[Duration]) -> Checked {
    if arrived.len() != sent.len() || arrived.len() != BEATS as usize {
        let figure = format!("{} messages arrived of {BEATS}", arrived.len());
        return Err(WireError::Malformed(figure).into());
    }
    let span = |times: &[Duration]| match (times.first(), times.last()) {
        (Some(first), Some(last)) => last.saturating_sub(*first),
        _ => Duration::ZERO,
    };
    let (sent, arrived) = (span(sent), span(arrived));
    let figure = format!("{BEATS} messages over {}, sent over {}", milliseconds(arrived), milliseconds(sent));
    // A side that was slow itself held nothing back.
    if arrived < sent.min(BEAT * (BEATS - 1)) / 2 {
        let cause = format!("a hop on the path buffers the {what} and forwards it in one piece");
        return Ok(Outcome::fail(figure, cause, remedies::BUFFERING).unless_busy());
    }
    Ok(Outcome::pass(figure))
}

/// A dialogue: each side waits for the other.
async fn full_duplex(path: &Path) -> Checked {
    let mut call = path.bidi_streaming(script::steps([script::echo(BEATS)])).await?;
    let begun = Instant::now();
    for number in 1..=BEATS {
        let payload = Bytes::from(number.to_be_bytes().to_vec());
        call.send(&pb::BidiStreamingRequest { script: None, payload: payload.clone() }).await?;
        match within(path.answer(), call.next()).await {
            Ok(Some(answer)) if answer.payload == payload => {}
            Ok(_) => {
                return Err(WireError::Malformed("the answer belongs to another question".to_owned()).into());
            }
            Err(WireError::Silent(_)) => return Ok(one_way(path, number)),
            Err(lost) => return Err(lost.into()),
        }
    }
    let time = begun.elapsed() / BEATS;
    call.half_close()?;
    call.end_well().await?;
    Ok(Outcome::pass(format!("{BEATS} questions and answers, {} each", milliseconds(time))))
}

pub(crate) fn one_way(path: &Path, question: u32) -> Outcome {
    let time = path.answer().as_secs();
    Outcome::fail(
        format!("no answer to message {question} in {time} s while the request was open"),
        "a hop on the path forwards the response only after the end of the request, or vice versa",
        remedies::BUFFERING,
    )
}

/// The client has said all it had to say, and the server goes on.
async fn client_ends_first(path: &Path) -> Checked {
    let script = pb::Script { ending: script::told(), ..script::steps([script::every(BEAT, 3)]) };
    let mut call = path.bidi_streaming(script).await?;
    call.half_close()?;
    let (mut count, mut observation, mut last) = (0, None, Duration::ZERO);
    while let Some(message) = call.next().await? {
        count += 1;
        // After them comes what waits for the end.
        if count <= 3 {
            last = message.sent.as_ref().map(script::read).unwrap_or_default();
        }
        observation = message.observation.or(observation);
    }
    call.end_well().await?;
    let half_closed = seen(observation)?.half_closed.as_ref().map(script::read);
    match half_closed {
        _ if count != 4 => Err(WireError::Malformed(format!("{count} messages arrived of 4")).into()),
        Some(time) if time < last => {
            Ok(Outcome::pass(format!("the server continued for {}", milliseconds(last - time))))
        }
        _ => Ok(Outcome::fail(
            "the end of the request reached the server after the last response",
            "a hop on the path holds back the end of the request",
            remedies::BUFFERING,
        )
        .unless_busy()),
    }
}

/// The server has said all it had to say, and the client would have more.
async fn server_ends_first(path: &Path) -> Checked {
    let ending = script::status(Code::Ok, "");
    let script = pb::Script { ending, ..script::steps([script::payload(16)]) };
    let mut call = path.bidi_streaming(script).await?;
    ends_first(within(path.answer(), call.end_well()).await, call.begun)
}

pub(crate) fn ends_first<T>(ended: Result<T, WireError>, begun: Instant) -> Checked {
    match ended {
        Ok(_) => Ok(Outcome::pass(format!("ended after {}", milliseconds(begun.elapsed())))),
        Err(WireError::Silent(time)) => Ok(Outcome::fail(
            format!("the end did not arrive in {} s while the request was open", time.as_secs()),
            "a hop on the path holds back the end of a response until the request has ended",
            remedies::END,
        )),
        Err(lost) => Err(lost.into()),
    }
}

/// Before a server has something to say it says that it will.
async fn head_first(path: &Path) -> Checked {
    const PAUSE: Duration = Duration::from_millis(500);
    let mut call = path.server_streaming(script::steps([script::every(PAUSE, 1)])).await?;
    call.head().await?;
    let head = call.begun.elapsed();
    call.next().await?;
    let message = call.begun.elapsed();
    call.end_well().await?;
    let figure = format!("headers after {}, message after {}", milliseconds(head), milliseconds(message));
    if message - head < PAUSE / 2 {
        let cause = "a hop on the path holds back the headers until the first message";
        return Ok(Outcome::fail(figure, cause, remedies::BUFFERING).unless_busy());
    }
    Ok(Outcome::pass(figure))
}

/// A server that has heard enough says so, and the client hears it while it is
/// still speaking.
async fn early_answer(path: &Path) -> Checked {
    let ending = script::status(Code::FailedPrecondition, "enough");
    let mut call = path.client_streaming(pb::Script { ending, ..pb::Script::default() }).await?;
    let chunk = pb::ClientStreamingRequest { script: None, payload: zeros(CHUNK) };
    // A server that has answered takes no more; that is not what is asked here.
    let begun = Instant::now();
    while begun.elapsed() < BEAT && call.send(&chunk).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    answered_early(within(path.answer(), call.end()).await.map(|(status, _)| status))
}

pub(crate) fn answered_early(ended: Result<tonic::Status, WireError>) -> Checked {
    match ended {
        Ok(status) if status.code() == Code::FailedPrecondition && status.message() == "enough" => {
            Ok(Outcome::pass("the answer arrived while the client was sending"))
        }
        Ok(status) => Ok(Outcome::fail(
            format!("{} instead of the server's status", WireError::Status(Box::new(status))),
            "a hop on the path replaces an early answer with its own status",
            remedies::STATUS,
        )),
        Err(WireError::Silent(time)) => Ok(Outcome::fail(
            format!("the answer did not arrive in {} s while the request was open", time.as_secs()),
            "a hop on the path reads the whole request before it forwards the response",
            remedies::BUFFERING,
        )),
        Err(lost @ WireError::StatusInHead(_)) => Err(lost.into()),
        Err(lost) => Ok(Outcome::fail(
            format!("{lost} instead of the server's status"),
            "a hop on the path ends calls that are answered before the end of the request",
            remedies::RESET,
        )),
    }
}

pub(crate) fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    match milliseconds < 10.0 {
        true => format!("{milliseconds:.1} ms"),
        false => format!("{milliseconds:.0} ms"),
    }
}

//! Whether connections and streams live as long as they should, and end in order.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;
use prost::Message;
use shared_proto::fourmodes::v1 as pb;
use timeline::words::counted;
use tokio::{sync::Mutex, task::JoinSet};

use crate::{
    Group,
    check::Check,
    outcome::{Checked, Outcome},
    path::{Alone, Path, UNARY},
    remedies, script,
    wire::{Wire, within},
    wire_error::WireError,
};

pub(crate) const IDLE: &str = "idle";

pub(crate) const CHECKS: [Check; 5] = [
    Check::new(Group::Life, IDLE, |path| Box::pin(idle(path))).idle(),
    Check::new(Group::Life, "lasting", |path| Box::pin(lasting(path))).idle(),
    Check::new(Group::Life, "keepalive", |path| Box::pin(keepalive(path))).anywhere().long(),
    Check::new(Group::Life, "empty-frames", |path| Box::pin(empty_frames(path))),
    Check::new(Group::Life, "1200-calls", |path| Box::pin(many_calls(path))).heavy(),
];

pub(crate) const NOT_ASKED: &str = "not requested: use --idle with a time, such as --idle 60s";

/// Nothing is said for a while, and then something in both directions.
async fn idle(path: &Path) -> Checked {
    let Some(time) = path.idle else { return Ok(Outcome::skip(NOT_ASKED)) };
    let begun = Instant::now();
    let silent = async {
        let steps = [script::payload(16), script::every(time, 1), script::echo(1)];
        let mut call = path.bidi_streaming(script::steps(steps)).await?;
        call.next().await?;
        let awake = || pb::BidiStreamingRequest { script: None, payload: Bytes::from_static(b"awake") };
        match within(time + path.answer(), call.next()).await {
            Err(lost @ WireError::Silent(_)) => {
                // Whether the next hop still takes what is sent.
                call.send(&awake()).await?;
                tokio::time::sleep(path.answer()).await;
                let progress = call.progress();
                return Err(if progress.under_way > 0 { WireError::silent(time, progress) } else { lost });
            }
            spoken => spoken?,
        };
        call.send(&awake()).await?;
        within(path.answer(), call.next()).await?;
        call.half_close()?;
        within(path.answer(), call.end_well()).await.map(drop)
    };
    let (ended, busy) = tokio::join!(async { (silent.await, begun.elapsed()) }, busy(path, time));
    slept(ended, busy, time)
}

/// By a call that was silent, and by one that was not, each with how long it lived.
pub(crate) fn slept(
    (ended, lived): (Result<(), WireError>, Duration),
    busy: Result<Duration, (WireError, Duration)>,
    time: Duration,
) -> Checked {
    let asked = humantime::format_duration(time);
    let lost = match ended {
        Ok(()) => return Ok(Outcome::pass(format!("silent for {asked}, still open"))),
        Err(lost) => lost,
    };
    let figure = format!("{lost} after {:.1} s of {asked}", lived.as_secs_f64());
    match (&lost, busy) {
        (WireError::Forgotten(..) | WireError::Silent(_), Ok(_)) => {
            let (cause, remedy) = WireError::FORGOTTEN;
            Ok(Outcome::fail(figure, cause, remedy))
        }
        (_, Err((_, old))) => Ok(Outcome::fail(
            format!("{figure}; a busy call ended after {:.1} s", old.as_secs_f64()),
            AGED,
            remedies::AGE,
        )),
        _ => Ok(Outcome::fail(figure, "a hop on the path ends silent streams", remedies::IDLE)),
    }
}

const AGED: &str = "a hop on the path ends calls by their age, even busy ones";

pub(crate) fn beats(time: Duration) -> (Duration, u32) {
    let beat = (time / 1000).max(Duration::from_millis(250)).min(time);
    (beat, (time.as_secs_f64() / beat.as_secs_f64()).ceil() as u32)
}

async fn busy(path: &Path, time: Duration) -> Result<Duration, (WireError, Duration)> {
    let call = path.bidi_streaming(script::steps([script::echo(beats(time).1)]));
    let beat = || pb::BidiStreamingRequest { script: None, payload: Bytes::from_static(b"beat") };
    spoken(path, time, call, beat).await
}

/// How long a call lives on which both sides speak all the time.
pub(crate) async fn spoken<Q: Message, R: Message + Default>(
    path: &Path,
    time: Duration,
    call: impl Future<Output = Result<Alone<Q, R>, WireError>>,
    request: impl Fn() -> Q,
) -> Result<Duration, (WireError, Duration)> {
    let begun = Instant::now();
    let (beat, beats) = beats(time);
    let spoken = async {
        let mut call = call.await?;
        for _ in 0..beats {
            tokio::time::sleep(beat).await;
            call.send(&request()).await?;
            within(path.answer(), call.next()).await?.ok_or(WireError::NoStatus)?;
        }
        call.half_close()?;
        call.end_well().await.map(drop)
    };
    match spoken.await {
        Ok(()) => Ok(begun.elapsed()),
        Err(lost) => Err((lost, begun.elapsed())),
    }
}

/// Something is said all the time, so that nothing but its age can end a call.
async fn lasting(path: &Path) -> Checked {
    let Some(time) = path.idle else { return Ok(Outcome::skip(NOT_ASKED)) };
    let (beat, beats) = beats(time);
    let call = path.server_streaming(script::steps([script::every(beat, beats)])).await?;
    lasted(call, busy(path, time)).await
}

/// A call whose request has ended, and one whose request goes on.
pub(crate) async fn lasted<Q, R: Message + Default>(
    mut call: Alone<Q, R>,
    busy: impl Future<Output = Result<Duration, (WireError, Duration)>>,
) -> Checked {
    let stream = async {
        let ended = call.end_well().await;
        (ended, call.begun.elapsed())
    };
    let ((ended, lived), busy) = tokio::join!(stream, busy);
    let figure = format!("{:.1} s", lived.as_secs_f64());
    match (ended, busy) {
        (Ok(_), Ok(_)) => Ok(Outcome::pass(figure)),
        (Ok(_), Err((lost, lived))) => Ok(Outcome::fail(
            format!(
                "{lost} after {:.1} s; a call whose request had ended lived {figure}",
                lived.as_secs_f64()
            ),
            "a hop on the path ends requests by their age, even busy ones",
            remedies::AGE,
        )),
        (Err(lost), _) => Ok(Outcome::fail(format!("{lost} after {figure}"), AGED, remedies::AGE)),
    }
}

/// As clients do that want to know whether somebody is there.
async fn keepalive(path: &Path) -> Checked {
    const PINGS: u32 = 5;
    const INTERVAL: Duration = Duration::from_secs(1);
    /// A quarter of what gRPC's own clients have.
    const PATIENCE: Duration = Duration::from_secs(5);
    let patience = path.pace().within(PATIENCE, 4);
    let (wire, without) = (path.open().await?, path.open().await?);
    let begun = Instant::now();
    for number in 1..=PINGS {
        match within(patience, wire.ping()).await {
            Ok(_) => {}
            Err(WireError::Silent(time)) => {
                return Ok(Outcome::fail(
                    format!("PING {number} had no answer in {} s", time.as_secs()),
                    "a hop on the path drops PINGs: clients that send them consider the server dead",
                    "let a product that speaks HTTP/2 answer them, as most do by themselves, or \
                     turn keepalive off in the clients",
                ));
            }
            Err(lost) => {
                let figure = format!("{lost} at PING {number}, one a second");
                let is_calm = matches!(lost, WireError::GoAway(Reason::ENHANCE_YOUR_CALM, _));
                if !is_calm && ends_anyway(&without, begun.elapsed()).await {
                    let figure = format!("{figure}; a connection without PINGs also ended");
                    return Ok(match lost {
                        WireError::GoAway(Reason::NO_ERROR, _) => Outcome::pass(figure),
                        _ => Outcome::warn(
                            figure,
                            "a hop on the path ends connections that are idle or old, without GOAWAY",
                            remedies::GOAWAY,
                        ),
                    });
                }
                // By default so many are an attack to the servers of gRPC's C core, Go and Java.
                if is_calm || number > 1 {
                    let cause = "the server, or a hop on the path, considers so many PINGs an attack";
                    return Ok(Outcome::warn(figure, cause, remedies::CALM));
                }
                let cause = "a hop on the path ends connections that receive PINGs";
                return Ok(Outcome::fail(figure, cause, remedies::CALM));
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(Outcome::pass(format!("{PINGS} of {PINGS} PINGs answered, one a second")))
}

/// Whether a connection ends by itself at about that age.
async fn ends_anyway(wire: &Wire, age: Duration) -> bool {
    const LOOK: Duration = Duration::from_millis(50);
    let time = age / 2 + Duration::from_secs(1);
    let ended = async {
        while wire.seen.ended().is_none() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(time, ended).await.is_ok()
}

async fn no_script(wire: Rc<Wire>) -> Result<(), WireError> {
    let request = pb::UnaryRequest { script: Some(script::steps([])), payload: Bytes::new() };
    wire.unary::<pb::UnaryResponse>(UNARY, HeaderMap::new(), &request).await.map(drop)
}

/// More calls than many proxies allow a connection; one that is replaced in order
/// loses none of them.
async fn many_calls(path: &Path) -> Checked {
    calls_on_connections(path, no_script).await
}

async fn empty_frames(path: &Path) -> Checked {
    empty_data(path, no_script).await
}

/// Rust's HTTP/2 ends a connection at the 101st; this client takes them out.
pub(crate) async fn empty_data<F: Future<Output = Result<(), WireError>> + 'static>(
    path: &Path,
    call: fn(Rc<Wire>) -> F,
) -> Checked {
    const CALLS: u64 = 16;
    let wire = Rc::new(path.open().await?);
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        calls.spawn_local(call(wire.clone()));
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap_or(Ok(()))?;
    }
    match wire.seen.empty_data() {
        0 => Ok(Outcome::pass(format!("none with {CALLS} answers"))),
        frames => Ok(Outcome::warn(
            format!("{frames} empty DATA frames with {CALLS} answers"),
            format!(
                "a hop on the path sends empty DATA frames: a client with Rust's h2 0.4.16 to \
                 0.4.20 (tonic) loses its connection every {} answers",
                100 * CALLS / frames
            ),
            remedies::EMPTY_DATA,
        )),
    }
}

const CALLS: u32 = 1200;

/// Calls on one connection, and on the next one when it ends in order.
pub(crate) async fn calls_on_connections<F: Future<Output = Result<(), WireError>> + 'static>(
    path: &Path,
    call: fn(Rc<Wire>) -> F,
) -> Checked {
    /// A path may be slow, and a check has its time.
    const ENOUGH: Duration = Duration::from_secs(20);
    /// By this many at a time: those that are under way when a connection is replaced
    /// are the ones that get lost. Where each takes long there are more.
    const AT_A_TIME: u32 = 4;
    const FOR_EACH: Duration = Duration::from_millis(5);
    let at_a_time = (path.pace().round_trip.as_millis() / FOR_EACH.as_millis()) as u32;
    let at_a_time = at_a_time.clamp(AT_A_TIME, 10 * AT_A_TIME);
    let begun = Instant::now();
    let connection = Rc::new(Mutex::new((Rc::new(path.open().await?), 1_u32)));
    let (left, done) = (Rc::new(Cell::new(CALLS)), Rc::new(Cell::new(0)));
    let mut calls = JoinSet::new();
    for _ in 0..at_a_time {
        let (path, connection, left, done) = (path.clone(), connection.clone(), left.clone(), done.clone());
        calls.spawn_local(async move {
            while left.get() > 0 && begun.elapsed() < ENOUGH {
                left.set(left.get() - 1);
                loop {
                    let (wire, number) = connection.lock().await.clone();
                    match call(wire).await {
                        Ok(()) => break,
                        // What the peer has not begun is to be made again.
                        Err(
                            WireError::GoAway(Reason::NO_ERROR, _) | WireError::Reset(Reason::REFUSED_STREAM),
                        ) => {
                            let mut connection = connection.lock().await;
                            if connection.1 == number {
                                *connection = (Rc::new(path.open().await?), number + 1);
                            }
                        }
                        Err(lost) => return Err(lost),
                    }
                }
                done.set(done.get() + 1);
            }
            Ok(())
        });
    }
    let mut lost = None;
    while let Some(ended) = calls.join_next().await {
        lost = lost.or(ended.ok().and_then(Result::err));
    }
    let (done, connections) = (done.get(), connection.lock().await.1);
    let figure =
        format!("{}, {}", counted(u64::from(done), "call"), counted(u64::from(connections), "connection"));
    match lost {
        None if done < CALLS => Ok(Outcome::skip(format!(
            "{figure} in {} s, none lost: the path is too slow for {CALLS}",
            ENOUGH.as_secs()
        ))),
        None => Ok(Outcome::pass(figure)),
        Some(lost @ (WireError::Local(_) | WireError::Status(_) | WireError::Http(_))) => {
            let (cause, remedy) = lost.advice();
            Ok(Outcome::fail(format!("{figure}, then {lost}"), cause, remedy))
        }
        Some(lost) => Ok(Outcome::fail(
            format!("{figure}, then {lost}"),
            "a hop on the path ends connections without GOAWAY, or with open calls",
            remedies::GOAWAY,
        )),
    }
}

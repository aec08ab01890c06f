//! Whether connections and streams live as long as they should, and end in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;
use shared_proto::fourmodes::v1 as pb;
use timeline::words::counted;
use tokio::sync::Mutex;

use crate::{
    Group,
    check::Check,
    outcome::{Checked, Outcome},
    path::{Path, UNARY},
    remedies, script,
    wire::{Wire, within},
    wire_error::WireError,
};

pub(crate) const IDLE: &str = "idle";

pub(crate) const CHECKS: [Check; 4] = [
    Check::new(Group::Life, IDLE, |path| Box::pin(idle(path))).idle(),
    Check::new(Group::Life, "lasting", |path| Box::pin(lasting(path))).idle(),
    Check::new(Group::Life, "keepalive", |path| Box::pin(keepalive(path))).anywhere().long(),
    Check::new(Group::Life, "1200-calls", |path| Box::pin(many_calls(path))).heavy(),
];

pub(crate) const NOT_ASKED: &str = "it takes a while: say how long with --idle, such as --idle 60s";

/// Nothing is said for a while, and then something in both directions.
async fn idle(path: &Path) -> Checked {
    let Some(time) = path.idle else { return Ok(Outcome::skip(NOT_ASKED)) };
    let begun = Instant::now();
    let ended = async {
        let steps = [script::payload(16), script::every(time, 1), script::echo(1)];
        let mut call = path.bidi_streaming(script::steps(steps)).await?;
        call.next().await?;
        call.next().await?;
        let payload = Bytes::from_static(b"awake");
        call.send(&pb::BidiStreamingRequest { script: None, payload }).await?;
        call.next().await?;
        call.half_close()?;
        call.end_well().await.map(drop)
    };
    slept(ended.await, begun.elapsed(), time)
}

pub(crate) fn slept(ended: Result<(), WireError>, lived: Duration, time: Duration) -> Checked {
    let time = humantime::format_duration(time);
    match ended {
        Ok(()) => Ok(Outcome::pass(format!("silent for {time}, and alive"))),
        Err(lost) => Ok(Outcome::fail(
            format!("{lost} after {:.1} s of {time}", lived.as_secs_f64()),
            "something on the path ends streams on which nothing is said for a while",
            remedies::IDLE,
        )),
    }
}

/// Something is said all the time, so that nothing but its age can end a call.
async fn lasting(path: &Path) -> Checked {
    let Some(time) = path.idle else { return Ok(Outcome::skip(NOT_ASKED)) };
    let beat = (time / 1000).max(Duration::from_millis(250)).min(time);
    let beats = (time.as_secs_f64() / beat.as_secs_f64()).ceil() as u32;
    let mut call = path.server_streaming(script::steps([script::every(beat, beats)])).await?;
    let ended = call.end_well().await;
    let figure = format!("{:.1} s", call.begun.elapsed().as_secs_f64());
    match ended {
        Ok(_) => Ok(Outcome::pass(figure)),
        Err(lost) => Ok(Outcome::fail(
            format!("{lost} after {figure}"),
            "something on the path ends calls by their age, however much passes on them",
            remedies::AGE,
        )),
    }
}

/// As clients do that want to know whether somebody is there.
async fn keepalive(path: &Path) -> Checked {
    const PINGS: u32 = 5;
    const INTERVAL: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(2);
    let wire = path.open().await?;
    for number in 1..=PINGS {
        match within(PATIENCE, wire.ping()).await {
            Ok(_) => {}
            Err(WireError::Silent(_)) => {
                return Ok(Outcome::fail(
                    format!("PING {number} had no answer in {} s", PATIENCE.as_secs()),
                    "something on the path swallows PINGs: clients that send them take the server for dead",
                    "let a product that speaks HTTP/2 answer them (nginx, Envoy, HAProxy, Caddy and AWS ALB do), or \
                     turn keepalive off in the clients",
                ));
            }
            Err(lost) if number == 1 && !matches!(lost, WireError::GoAway(Reason::ENHANCE_YOUR_CALM)) => {
                let cause = "something on the path ends a connection that is asked whether it is alive";
                return Ok(Outcome::fail(format!("{lost} at the first PING"), cause, remedies::CALM));
            }
            // By default so many are an attack to the servers of gRPC's C core, Go and
            // Java: they say ENHANCE_YOUR_CALM, which may be lost with the connection.
            Err(lost) => {
                return Ok(Outcome::warn(
                    format!("{lost} at PING {number}, one a second"),
                    "the server, or something on the path, takes so many PINGs for an attack",
                    remedies::CALM,
                ));
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(Outcome::pass(format!("{PINGS} of {PINGS} PINGs answered, one a second")))
}

/// More calls than many proxies allow a connection; one that is replaced in order
/// loses none of them.
async fn many_calls(path: &Path) -> Checked {
    calls_on_connections(path, async |wire| {
        let request = pb::UnaryRequest { script: Some(script::steps([])), payload: Bytes::new() };
        wire.unary::<pb::UnaryResponse>(UNARY, HeaderMap::new(), &request).await.map(drop)
    })
    .await
}

/// By this many at a time: those that are under way when a connection is replaced
/// are the ones that get lost.
const AT_A_TIME: u32 = 4;
const CALLS: u32 = 1200;

/// Calls on one connection, and on the next one when it ends in order.
pub(crate) async fn calls_on_connections(
    path: &Path,
    call: impl AsyncFn(&Wire) -> Result<(), WireError>,
) -> Checked {
    /// A path may be slow, and a check has its time.
    const ENOUGH: Duration = Duration::from_secs(25);
    let begun = Instant::now();
    let connection = Mutex::new((Arc::new(path.open().await?), 1_u32));
    let done = AtomicU32::new(0);
    let one_after_the_other = async || -> Result<(), WireError> {
        for _ in 0..CALLS / AT_A_TIME {
            loop {
                let (wire, number) = connection.lock().await.clone();
                match call(&wire).await {
                    Ok(()) => break,
                    // What the peer has not begun is to be made again.
                    Err(WireError::GoAway(Reason::NO_ERROR) | WireError::Reset(Reason::REFUSED_STREAM)) => {
                        let mut connection = connection.lock().await;
                        if connection.1 == number {
                            *connection = (Arc::new(path.open().await?), number + 1);
                        }
                    }
                    Err(lost) => return Err(lost),
                }
            }
            done.fetch_add(1, Relaxed);
            if begun.elapsed() > ENOUGH {
                break;
            }
        }
        Ok(())
    };
    let ended = tokio::try_join!(
        one_after_the_other(),
        one_after_the_other(),
        one_after_the_other(),
        one_after_the_other()
    );
    let connections = counted(connection.into_inner().1.into(), "connection");
    let figure = format!("{}, {connections}", counted(done.into_inner().into(), "call"));
    match ended {
        Ok(_) => Ok(Outcome::pass(figure)),
        Err(lost) => Ok(Outcome::fail(
            format!("{figure}, then {lost}"),
            "something on the path ends a connection without GOAWAY, or with calls that had begun",
            remedies::GOAWAY,
        )),
    }
}

//! Whether the path bears much: large messages, many streams, slow readers.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use grpc_wire::limits;
use http::{HeaderMap, StatusCode};
use shared_proto::fourmodes::v1::{self as pb, probe_service_client::ProbeServiceClient};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic::{Code, codec::CompressionEncoding};
use uuid::Uuid;

use crate::{
    Group,
    check::Check,
    evidence::Progress,
    outcome::{Checked, Outcome, Size, rate},
    path::{Alone, BIDI_STREAMING, Pace, Path, seen},
    remedies, script,
    wire::{Call, within},
    wire_error::WireError,
};

pub(crate) const CHECKS: [Check; 13] = [
    Check::new(Group::Flow, "1-mib-up", |path| Box::pin(up(path, 1 << 20))).heavy(),
    Check::new(Group::Flow, "4-mib-up", |path| Box::pin(up(path, 4 << 20))).heavy(),
    Check::new(Group::Flow, "16-mib-up", |path| Box::pin(up(path, 16 << 20))).heavy(),
    Check::new(Group::Flow, "1-mib-down", |path| Box::pin(down(path, 1 << 20))).heavy(),
    Check::new(Group::Flow, "4-mib-down", |path| Box::pin(down(path, 4 << 20))).heavy(),
    Check::new(Group::Flow, "16-mib-down", |path| Box::pin(down(path, 16 << 20))).heavy(),
    Check::new(Group::Flow, "long-upload", |path| Box::pin(long_upload(path))).heavy(),
    Check::new(Group::Flow, "long-download", |path| Box::pin(long_download(path))).heavy(),
    Check::new(Group::Flow, "streams", |path| Box::pin(streams(path))).filling(),
    Check::new(Group::Flow, "slow-client", |path| Box::pin(slow_client(path))).filling(),
    Check::new(Group::Flow, "slow-server", |path| Box::pin(slow_server(path))).filling(),
    Check::new(Group::Flow, "gzip", |path| Box::pin(compressed(path, CompressionEncoding::Gzip))),
    Check::new(Group::Flow, "zstd", |path| Box::pin(compressed(path, CompressionEncoding::Zstd))),
];

/// What is around a payload in a message, at most.
const AROUND: u32 = 64;

/// Why what is so long is left out, if it would take too long.
pub(crate) fn too_long(path: &Path, bytes: u64) -> Option<Outcome> {
    const TOO_LONG: Duration = Duration::from_secs(15);
    let pace = path.pace();
    let time = pace.time_for(bytes);
    let rate = Size(pace.rate.unwrap_or_default() as u64);
    let cause = || format!("{} would take {} s: the path carries {rate}/s", Size(bytes), time.as_secs());
    (time > TOO_LONG).then(|| Outcome::skip(cause()))
}

/// A message of `size` bytes, all in all.
async fn up(path: &Path, size: u32) -> Checked {
    if let Some(skipped) = too_long(path, size.into()) {
        return Ok(skipped);
    }
    let limit = path.limits().max_stream_message_bytes;
    let begun = Instant::now();
    let mut call = path.client_streaming(pb::Script::default()).await?;
    let message = pb::ClientStreamingRequest { script: None, payload: zeros(size - AROUND) };
    call.ask(&message).await;
    let (answer, ended) = answer_and_end(&mut call).await;
    let size = Size(size.into());
    if ended.as_ref().is_ok_and(|status| size.0 > limit && is_over_limit(status.code())) {
        let figure = format!("{size} refused: the server takes {} in a message", Size(limit));
        return Ok(Outcome::pass(figure));
    }
    let observation = answer.and_then(|answer: pb::ClientStreamingResponse| answer.observation);
    passed(path, size, observation.map_or(0, |seen| seen.bytes_received), ended, begun)
}

async fn down(path: &Path, size: u32) -> Checked {
    if let Some(skipped) = too_long(path, size.into()) {
        return Ok(skipped);
    }
    let begun = Instant::now();
    let message = script::payload(size - AROUND);
    let mut call = path.server_streaming(script::steps([message])).await?;
    let (answer, ended) = answer_and_end(&mut call).await;
    let size = Size(size.into());
    let bytes = answer.map_or(0, |answer: pb::ServerStreamingResponse| answer.payload.len());
    passed(path, size, bytes as u64, ended, begun)
}

pub(crate) async fn answer_and_end<Q, R: prost::Message + Default>(
    call: &mut Call<Q, R>,
) -> (Option<R>, Result<tonic::Status, WireError>) {
    let answer = match call.next().await {
        Ok(answer) => answer,
        Err(lost) => return (None, Err(lost)),
    };
    (answer, call.end().await.map(|(status, _)| status))
}

/// tonic's own limit has a code of its own.
fn is_over_limit(code: Code) -> bool {
    matches!(code, Code::ResourceExhausted | Code::OutOfRange)
}

/// What became of a message of that size, of which so many bytes arrived.
pub(crate) fn passed(
    path: &Path,
    size: Size,
    bytes: u64,
    ended: Result<tonic::Status, WireError>,
    begun: Instant,
) -> Checked {
    let cause = format!("a hop on the path, or the server, rejects a message of {size}");
    whole(path, size, bytes, ended, begun, (cause, remedies::MESSAGE))
}

fn whole(
    path: &Path,
    size: Size,
    bytes: u64,
    ended: Result<tonic::Status, WireError>,
    begun: Instant,
    limit: (String, &str),
) -> Checked {
    let lost = match ended {
        Ok(status) if status.code() == Code::Ok => return arrived(path, size, bytes, begun.elapsed()),
        Ok(status) => WireError::Status(Box::new(status)),
        Err(lost) => lost,
    };
    let Progress { sent, received, .. } = path.evidence.progress();
    let bytes = sent.max(received).min(size.0);
    let figure = format!("{lost}, after {} of {size}, {}", Size(bytes), rate(bytes, begun.elapsed()));
    // Only what is an answer to the size is a limit of it.
    let is_limit = match &lost {
        WireError::Reset(_) => true,
        WireError::Http(page) => page.status == StatusCode::PAYLOAD_TOO_LARGE,
        WireError::Status(status) => is_over_limit(status.code()) && !lost.is_limit_of_server(),
        _ => false,
    };
    let (cause, remedy) = if is_limit { (limit.0.as_str(), limit.1) } else { lost.advice() };
    Ok(Outcome { again: lost.again(), ..Outcome::fail(figure, cause, remedy) })
}

fn arrived(path: &Path, size: Size, bytes: u64, time: Duration) -> Checked {
    /// To connect, and until TCP has found out how much it may send at once.
    const ROUND_TRIPS: u32 = 9;
    if bytes + u64::from(AROUND) < size.0 {
        return Err(WireError::Malformed(format!("{} arrived of {size}", Size(bytes))).into());
    }
    let round_trip = path.pace().round_trip;
    let sending = time.saturating_sub(round_trip * ROUND_TRIPS).as_secs_f64().max(1e-6);
    path.learn(Pace { round_trip, rate: Some(size.0 as f64 / sending) });
    Ok(Outcome::pass(format!("{size} at {}", rate(size.0, time))))
}

pub(crate) fn zeros(size: u32) -> Bytes {
    vec![0; size as usize].into()
}

/// More in one call than limits of a body allow, in messages that are none too
/// large.
pub(crate) const LONG: u32 = 20;
pub(crate) const PIECE: u32 = 1 << 20;

async fn long_upload(path: &Path) -> Checked {
    // None is larger than the server takes.
    let limit = path.limits().max_stream_message_bytes;
    let piece = u32::try_from(limit).unwrap_or(u32::MAX).clamp(2 * AROUND, PIECE);
    let message = pb::ClientStreamingRequest { script: None, payload: zeros(piece - AROUND) };
    let arrived = |answer: pb::ClientStreamingResponse| {
        let observation = answer.observation?;
        Some(observation.bytes_received + observation.messages_received * u64::from(AROUND))
    };
    send_all(path, path.client_streaming(pb::Script::default()), &message, LONG * PIECE / piece, arrived)
        .await
}

async fn long_download(path: &Path) -> Checked {
    let message = pb::Step { repeat: LONG, ..script::payload(PIECE - AROUND) };
    let call = path.server_streaming(script::steps([message]));
    take_all(path, call, |message| message.payload.len() as u64 + u64::from(AROUND)).await
}

const WHOLE: Size = Size(LONG as u64 * PIECE as u64);

/// Sends a message so many times. `arrived` is what the answer says of it, in bytes;
/// without one it is what was sent.
pub(crate) async fn send_all<Q: prost::Message, R: prost::Message + Default>(
    path: &Path,
    call: impl Future<Output = Result<Alone<Q, R>, WireError>>,
    message: &Q,
    times: u32,
    arrived: impl FnOnce(R) -> Option<u64>,
) -> Checked {
    if let Some(skipped) = too_long(path, WHOLE.0) {
        return Ok(skipped);
    }
    let (begun, mut call) = (Instant::now(), call.await?);
    let sent = async {
        for _ in 0..times {
            call.send(message).await?;
        }
        call.half_close()
    }
    .await;
    let (answer, ended) = answer_and_end(&mut call).await;
    let bytes = answer.and_then(arrived).unwrap_or(WHOLE.0);
    long(path, bytes, heard(sent, ended), begun)
}

/// Takes messages until their end, each of `length` bytes.
pub(crate) async fn take_all<Q, R: prost::Message + Default>(
    path: &Path,
    call: impl Future<Output = Result<Alone<Q, R>, WireError>>,
    length: impl Fn(R) -> u64,
) -> Checked {
    if let Some(skipped) = too_long(path, WHOLE.0) {
        return Ok(skipped);
    }
    let (begun, mut call) = (Instant::now(), call.await?);
    let mut bytes = 0;
    let ended = loop {
        match call.next().await {
            Ok(Some(message)) => bytes += length(message),
            Ok(None) => break call.end().await.map(|(status, _)| status),
            Err(lost) => break Err(lost),
        }
    };
    long(path, bytes, ended, begun)
}

/// A refusal says more than that nothing more is taken.
fn heard(
    sent: Result<(), WireError>,
    ended: Result<tonic::Status, WireError>,
) -> Result<tonic::Status, WireError> {
    match ended {
        Ok(status) if status.code() == Code::Ok => sent.map(|()| status),
        ended => ended,
    }
}

/// What became of a call with [`WHOLE`] bytes in it.
fn long(path: &Path, bytes: u64, ended: Result<tonic::Status, WireError>, begun: Instant) -> Checked {
    let limit = ("a hop on the path ends streams by their size".to_owned(), remedies::BODY);
    whole(path, WHOLE, bytes + u64::from(LONG * AROUND), ended, begun, limit)
}

/// As many streams at once as the server allows, and one more, which has to wait. What
/// is open is what echoes: some proxies hold back a head, or read a stream ahead.
async fn streams(path: &Path) -> Checked {
    /// More would be no question about the path.
    const MOST: u32 = 1000;
    /// After this long without another stream there will be none.
    const QUIET: Duration = Duration::from_secs(2);
    /// The streams that are open speak this often.
    const BEAT: Duration = Duration::from_millis(500);
    let quiet = path.pace().within(QUIET, 4);
    let limit = path.limits().max_concurrent_streams;
    let allowed = limit.clamp(1, MOST) as usize;
    let wire = Arc::new(path.open().await?);
    let (open, mut opened) = watch::channel(0);
    let (release, released) = watch::channel(false);
    let mut calls: JoinSet<Result<(), WireError>> = JoinSet::new();
    for _ in 0..=allowed {
        let (wire, open, mut released) = (wire.clone(), open.clone(), released.clone());
        calls.spawn(async move {
            let mut call =
                wire.call::<_, pb::BidiStreamingResponse>(BIDI_STREAMING, HeaderMap::new()).await?;
            let script = Some(script::steps([script::echo(u32::from(u16::MAX))]));
            call.send(&pb::BidiStreamingRequest { script, ..Default::default() }).await?;
            let beat = pb::BidiStreamingRequest { payload: zeros(16), ..Default::default() };
            call.send(&beat).await?;
            if call.next().await?.is_some() {
                open.send_modify(|count| *count += 1);
                // A hop may end a stream that is silent. Nobody is left to release it when
                // the channel is closed.
                while timeout(BEAT, released.wait_for(|released| *released)).await.is_err() {
                    call.send(&beat).await?;
                    call.next().await?;
                }
            }
            call.half_close()?;
            call.end_well().await.map(drop)
        });
    }
    // The first one may have to wait for all to be begun.
    let mut wait = path.answer();
    let mut lost = None;
    let mut ended = 0;
    while *opened.borrow_and_update() + ended <= allowed && lost.is_none() {
        tokio::select! {
            changed = timeout(wait, opened.changed()) => {
                if changed.is_err() {
                    break;
                }
                wait = quiet;
            }
            Some(call) = calls.join_next() => {
                ended += 1;
                lost = call.ok().and_then(Result::err);
            }
        }
    }
    let at_once = *opened.borrow();
    if at_once == 0 && lost.is_none() {
        return Ok(Outcome::skip(
            "responses arrive only after the end of the request: see modes/full-duplex",
        ));
    }
    release.send_replace(true);
    while let Some(call) = calls.join_next().await {
        lost = lost.or(call.ok().and_then(Result::err));
    }
    let figure = format!("{at_once} at once, the server allows {limit}");
    if let Some(lost) = lost {
        let (cause, remedy) = match lost {
            WireError::Reset(_) | WireError::Status(_) => {
                ("a hop on the path rejects a stream that should wait for a free place", remedies::STREAMS)
            }
            _ => lost.advice(),
        };
        return Ok(Outcome::fail(format!("{figure}; one ended with {lost}"), cause, remedy));
    }
    match at_once {
        fewer if fewer < allowed => Ok(Outcome::warn(
            figure,
            "a hop on the path allows fewer streams on a connection than the server",
            remedies::STREAMS,
        )
        .unless_busy()),
        _ if limit > MOST => Ok(Outcome::pass(format!("{figure}; more were not tried"))),
        just if just == allowed => Ok(Outcome::pass(format!("{figure}; one more waited"))),
        _ => Ok(Outcome::pass(format!("{figure}: the path has several connections to it"))),
    }
}

/// More than all windows and sensible buffers on the way.
const FLOOD: u64 = 64 << 20;
const CHUNK: u32 = 32 << 10;
/// When nothing more was sent for that long, and some round trips, nothing will be.
const STILL: Duration = Duration::from_millis(500);
const ROUND_TRIPS: u32 = 4;

/// The client reads no more, and the server has to stop.
///
/// Two calls that nobody reads: one may leave room in the window of a connection on the path.
async fn slow_client(path: &Path) -> Checked {
    // A proxy may take the next part of it when the last one has passed.
    let still = path.pace().within(STILL, ROUND_TRIPS) + path.pace().time_for(limits::STREAM_WINDOW.into());
    let repeat = FLOOD as u32 / CHUNK;
    let (id, mut unread) = (Uuid::new_v4(), Vec::new());
    for call_id in [Uuid::new_v4(), id] {
        let script = pb::Script {
            call_id: call_id.to_string(),
            ..script::steps([pb::Step { repeat, ..script::payload(CHUNK) }])
        };
        let mut call = path.server_streaming(script).await?;
        match within(path.patience(), call.next()).await {
            Err(WireError::Silent(time)) => return Ok(stops_others(time)),
            begun => begun?,
        };
        unread.push(call);
    }
    let mut last = (0, Instant::now());
    loop {
        let seen = match path.observe(id, Duration::from_secs(3), |_| true).await {
            Ok(Some(seen)) => seen,
            Ok(None) => return Ok(Outcome::skip("another instance answered the query")),
            Err(WireError::Silent(time)) => return Ok(stops_others(time)),
            Err(lost) => return Err(lost.into()),
        };
        if seen.bytes_sent > last.0 {
            last = (seen.bytes_sent, Instant::now());
        }
        if seen.bytes_sent >= FLOOD || last.1.elapsed() > still {
            break;
        }
        tokio::time::sleep(STILL / 10).await;
    }
    held(last.0, "the server")
}

/// Another call got nothing for `time` while nobody read.
fn stops_others(time: Duration) -> Outcome {
    Outcome::fail(
        format!("another call has no answer in {} s", time.as_secs()),
        "a slow reader stops other calls: it uses up the window of a connection on the path",
        remedies::WINDOWS,
    )
}

/// The server reads no more, and the client has to stop.
async fn slow_server(path: &Path) -> Checked {
    /// A path that takes more in that time is none that can be filled.
    const ENOUGH: Duration = Duration::from_secs(12);
    let still = path.pace().within(STILL, ROUND_TRIPS);
    let read_delay = prost_types::Duration { seconds: 60, nanos: 0 };
    let script = pb::Script { read_delay: Some(read_delay), ..pb::Script::default() };
    let mut call = path.client_streaming(script).await?;
    let limit = u32::try_from(path.limits().max_stream_message_bytes).unwrap_or(u32::MAX);
    let chunk = limit.clamp(2 * AROUND, CHUNK) - AROUND;
    let message = pb::ClientStreamingRequest { script: None, payload: zeros(chunk) };
    let (begun, sent) = (Instant::now(), Cell::new(0));
    let mut stopped = Box::pin(async {
        while sent.get() < FLOOD && call.send(&message).await.is_ok() {
            sent.set(sent.get() + u64::from(chunk));
        }
    });
    let mut taken = Progress::default();
    // While something gets to the next hop the client has not stopped.
    while timeout(still, &mut stopped).await.is_err() {
        let now = path.evidence.progress();
        if now.sent == taken.sent && now.under_way == 0 {
            break;
        }
        if begun.elapsed() > ENOUGH {
            let rate = rate(now.sent, begun.elapsed());
            return Ok(Outcome::skip(format!(
                "after {} at {rate} the path still accepts more: too slow for a verdict",
                Size(now.sent)
            )));
        }
        taken = now;
    }
    drop(stopped);
    // It has no answer yet; who gives one has something against so much.
    match within(still, call.end()).await {
        Err(WireError::Silent(_)) => held(sent.get(), "the client"),
        Err(lost) => Err(lost.into()),
        Ok((status, _)) => Err(WireError::Status(Box::new(status)).into()),
    }
}

/// How much was sent to somebody who did not read.
fn held(bytes: u64, who: &str) -> Checked {
    let figure = format!("{who} stopped after {}", Size(bytes));
    if bytes >= FLOOD {
        return Ok(Outcome::fail(
            format!("{who} sent {} that nobody read", Size(bytes)),
            "a hop on the path buffers without limit: a slow reader fills its memory or its disk",
            remedies::BACKPRESSURE,
        ));
    }
    Ok(Outcome::pass(figure))
}

/// By a client of tonic's, which compresses by itself.
async fn compressed(path: &Path, encoding: CompressionEncoding) -> Checked {
    const BYTES: u32 = 32 << 10;
    // Half of what the server takes, if that is less.
    let bytes = BYTES.min(path.unary_limit() / 2);
    let name = match encoding {
        CompressionEncoding::Gzip => "gzip",
        _ => "zstd",
    };
    let channel = path.connector.connect(&path.server).await?;
    let mut client = ProbeServiceClient::new(channel).send_compressed(encoding).accept_compressed(encoding);
    let step = pb::Step { compressible: true, ..script::payload(bytes) };
    let request = pb::UnaryRequest { script: Some(script::steps([step])), payload: zeros(bytes) };
    let fails = |figure: String| {
        Outcome::fail(
            figure,
            format!("a hop on the path, or the server, does not support {name}"),
            remedies::COMPRESSION,
        )
    };
    let response = match client.unary(request).await {
        Ok(response) => response,
        Err(status) => return Ok(fails(WireError::Status(Box::new(status)).to_string())),
    };
    let back = response.metadata().get("grpc-encoding").and_then(|value| value.to_str().ok());
    let back = back.unwrap_or("identity").to_owned();
    let answer = response.into_inner();
    let there = seen(answer.observation)?.encoding;
    if answer.payload.len() != bytes as usize {
        return Ok(fails(format!("{} of {bytes} bytes came back", answer.payload.len())));
    }
    match there == name && back == name {
        true => Ok(Outcome::pass("in both directions")),
        false => Ok(Outcome::warn(
            format!("{there} to the server, {back} back"),
            "a hop on the path removes the headers that negotiate compression",
            remedies::COMPRESSION,
        )),
    }
}

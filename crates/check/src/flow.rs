//! Whether the path bears much: large messages, many streams, slow readers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use shared_proto::fourmodes::v1::{self as pb, probe_service_client::ProbeServiceClient};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic::{Code, codec::CompressionEncoding};
use uuid::Uuid;

use crate::{
    Group,
    check::Check,
    outcome::{Checked, Outcome, Size},
    path::{BIDI_STREAMING, Path, seen},
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
    Check::new(Group::Flow, "streams", |path| Box::pin(streams(path))).heavy(),
    Check::new(Group::Flow, "slow-client", |path| Box::pin(slow_client(path))).heavy(),
    Check::new(Group::Flow, "slow-server", |path| Box::pin(slow_server(path))).heavy(),
    Check::new(Group::Flow, "gzip", |path| Box::pin(compressed(path, CompressionEncoding::Gzip))),
    Check::new(Group::Flow, "zstd", |path| Box::pin(compressed(path, CompressionEncoding::Zstd))),
];

/// What is around a payload in a message, at most.
const AROUND: u32 = 64;

/// A message of `size` bytes, all in all.
async fn up(path: &Path, size: u32) -> Checked {
    let limit = path.limits().max_stream_message_bytes;
    let begun = Instant::now();
    let mut call = path.client_streaming(pb::Script::default()).await?;
    let message = pb::ClientStreamingRequest { script: None, payload: zeros(size - AROUND) };
    call.ask(&message).await;
    let (answer, ended) = answer_and_end(&mut call).await;
    let size = Size(size.into());
    match ended {
        Ok(status) if status.code() == Code::Ok => {
            let seen = seen(answer.and_then(|answer: pb::ClientStreamingResponse| answer.observation))?;
            arrived(size, seen.bytes_received, begun.elapsed())
        }
        Ok(status) if size.0 > limit && is_over_limit(status.code()) => Ok(over_limit(size, limit)),
        Ok(status) => Ok(refused(size, WireError::Status(Box::new(status)))),
        Err(lost) => Ok(refused(size, lost)),
    }
}

async fn down(path: &Path, size: u32) -> Checked {
    let begun = Instant::now();
    let message = script::payload(size - AROUND);
    let mut call = path.server_streaming(script::steps([message])).await?;
    let (answer, ended) = answer_and_end(&mut call).await;
    let size = Size(size.into());
    match ended {
        Ok(status) if status.code() == Code::Ok => {
            let payload = answer.map(|answer: pb::ServerStreamingResponse| answer.payload);
            arrived(size, payload.unwrap_or_default().len() as u64 + u64::from(AROUND), begun.elapsed())
        }
        Ok(status) if is_over_limit(status.code()) => {
            Ok(Outcome::pass(format!("{size} refused by the server")))
        }
        Ok(status) => Ok(refused(size, WireError::Status(Box::new(status)))),
        Err(lost) => Ok(refused(size, lost)),
    }
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

fn over_limit(size: Size, limit: u64) -> Outcome {
    Outcome::pass(format!("{size} refused: the server takes {} in a message", Size(limit)))
}

pub(crate) fn arrived(size: Size, bytes: u64, time: Duration) -> Checked {
    if bytes + u64::from(AROUND) < size.0 {
        return Err(WireError::Malformed(format!("{} arrived of {size}", Size(bytes))).into());
    }
    let rate = size.0 as f64 / time.as_secs_f64() / f64::from(1 << 20);
    Ok(Outcome::pass(format!("{size} at {rate:.0} MiB/s")))
}

pub(crate) fn refused(size: Size, lost: WireError) -> Outcome {
    let cause = format!("something on the path, or the server, does not bear a message of {size}");
    Outcome::fail(lost.to_string(), cause, remedies::MESSAGE)
}

pub(crate) fn zeros(size: u32) -> Bytes {
    vec![0; size as usize].into()
}

/// More in one call than limits of a body allow, in messages that are none too
/// large.
pub(crate) const LONG: u32 = 20;
pub(crate) const PIECE: u32 = 1 << 20;

async fn long_upload(path: &Path) -> Checked {
    let begun = Instant::now();
    let mut call = path.client_streaming(pb::Script::default()).await?;
    let message = pb::ClientStreamingRequest { script: None, payload: zeros(PIECE - AROUND) };
    let arrived = |answer: pb::ClientStreamingResponse| Some(answer.observation?.bytes_received);
    send_all(&mut call, &message, arrived, begun).await
}

async fn long_download(path: &Path) -> Checked {
    let message = script::payload(PIECE - AROUND);
    let begun = Instant::now();
    let mut call = path.server_streaming(script::steps([pb::Step { repeat: LONG, ..message }])).await?;
    take_all(&mut call, |message| message.payload.len() as u64 + u64::from(AROUND), begun).await
}

/// Sends a message [`LONG`] times. `arrived` is what the answer says of it, in
/// bytes; without one it is what was sent.
pub(crate) async fn send_all<Q: prost::Message, R: prost::Message + Default>(
    call: &mut Call<Q, R>,
    message: &Q,
    arrived: impl FnOnce(R) -> Option<u64>,
    begun: Instant,
) -> Checked {
    let mut count = 0;
    let sent = async {
        while count < LONG {
            call.send(message).await?;
            count += 1;
        }
        call.half_close()
    }
    .await;
    let (answer, ended) = answer_and_end(call).await;
    let bytes = answer.and_then(arrived).unwrap_or_else(|| u64::from(count) * u64::from(PIECE));
    whole(bytes, heard(sent, ended), begun.elapsed())
}

/// Takes messages until their end, each of `length` bytes.
pub(crate) async fn take_all<Q, R: prost::Message + Default>(
    call: &mut Call<Q, R>,
    length: impl Fn(R) -> u64,
    begun: Instant,
) -> Checked {
    let mut bytes = 0;
    let ended = loop {
        match call.next().await {
            Ok(Some(message)) => bytes += length(message),
            Ok(None) => break call.end().await.map(|(status, _)| status),
            Err(lost) => break Err(lost),
        }
    };
    whole(bytes, ended, begun.elapsed())
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

fn whole(bytes: u64, ended: Result<tonic::Status, WireError>, time: Duration) -> Checked {
    let all = Size(u64::from(LONG) * u64::from(PIECE));
    let lost = match ended {
        Ok(status) if status.code() == Code::Ok => {
            return arrived(all, bytes + u64::from(LONG * AROUND), time);
        }
        Ok(status) => WireError::Status(Box::new(status)),
        Err(lost) => lost,
    };
    let figure = format!("{lost}, after {} of {all}", Size(bytes));
    Ok(Outcome::fail(figure, "something on the path ends streams by their size", remedies::BODY))
}

/// As many streams at once as the server allows, and one more, which has to wait.
async fn streams(path: &Path) -> Checked {
    /// More would be no question about the path.
    const MOST: u32 = 1000;
    /// After this long without another stream there will be none.
    const QUIET: Duration = Duration::from_secs(1);
    let allowed = path.limits().max_concurrent_streams.clamp(1, MOST) as usize;
    let wire = Arc::new(path.open().await?);
    let (open, mut opened) = watch::channel(0);
    let (release, released) = watch::channel(false);
    let mut calls: JoinSet<Result<(), WireError>> = JoinSet::new();
    for _ in 0..=allowed {
        let (wire, open, mut released) = (wire.clone(), open.clone(), released.clone());
        calls.spawn(async move {
            let mut call =
                wire.call::<_, pb::BidiStreamingResponse>(BIDI_STREAMING, HeaderMap::new()).await?;
            let script = Some(pb::Script::default());
            call.send(&pb::BidiStreamingRequest { script, ..pb::BidiStreamingRequest::default() }).await?;
            call.head().await?;
            open.send_modify(|count| *count += 1);
            // Whoever would release them is gone when this fails.
            let _ = released.wait_for(|released| *released).await;
            call.half_close()?;
            call.end_well().await.map(drop)
        });
    }
    let mut lost = None;
    let mut ended = 0;
    while *opened.borrow_and_update() + ended <= allowed && lost.is_none() {
        tokio::select! {
            changed = timeout(QUIET, opened.changed()) => if changed.is_err() { break },
            Some(call) = calls.join_next() => {
                ended += 1;
                lost = call.ok().and_then(Result::err);
            }
        }
    }
    let at_once = *opened.borrow();
    release.send_replace(true);
    while let Some(call) = calls.join_next().await {
        lost = lost.or(call.ok().and_then(Result::err));
    }
    let figure = format!("{at_once} at once, the server allows {allowed}");
    if let Some(lost) = lost {
        let (cause, remedy) = match lost {
            WireError::Reset(_) | WireError::Status(_) => (
                "something on the path refuses a stream that should wait until there is room",
                remedies::STREAMS,
            ),
            _ => lost.advice(),
        };
        return Ok(Outcome::fail(format!("{figure}; one ended with {lost}"), cause, remedy));
    }
    match at_once {
        fewer if fewer < allowed => Ok(Outcome::warn(
            figure,
            "something on the path lets fewer streams through a connection than the server",
            remedies::STREAMS,
        )),
        just if just == allowed => Ok(Outcome::pass(format!("{figure}; one more waited"))),
        _ => Ok(Outcome::pass(format!("{figure}: the path has several connections to it"))),
    }
}

/// More than all windows and sensible buffers on the way.
const FLOOD: u32 = 2048;
const CHUNK: u32 = 32 << 10;
/// When nothing more was sent for that long, nothing will be.
const STILL: Duration = Duration::from_millis(500);

/// The client reads no more, and the server has to stop.
async fn slow_client(path: &Path) -> Checked {
    let id = Uuid::new_v4();
    let script = pb::Script {
        call_id: id.to_string(),
        ..script::steps([pb::Step { repeat: FLOOD, ..script::payload(CHUNK) }])
    };
    let mut call = path.server_streaming(script).await?;
    call.next().await?;
    let mut last = (0, Instant::now());
    loop {
        let Some(seen) = path.observe(id, Duration::from_secs(3), |_| true).await? else {
            return Ok(Outcome::skip("another instance answered when this one's was asked for"));
        };
        if seen.bytes_sent > last.0 {
            last = (seen.bytes_sent, Instant::now());
        }
        if seen.messages_sent >= u64::from(FLOOD) || last.1.elapsed() > STILL {
            break;
        }
        tokio::time::sleep(STILL / 10).await;
    }
    held(last.0, "the server")
}

/// The server reads no more, and the client has to stop.
async fn slow_server(path: &Path) -> Checked {
    let read_delay = prost_types::Duration { seconds: 60, nanos: 0 };
    let script = pb::Script { read_delay: Some(read_delay), ..pb::Script::default() };
    let mut call = path.client_streaming(script).await?;
    let message = pb::ClientStreamingRequest { script: None, payload: zeros(CHUNK) };
    let mut sent = 0;
    while sent < FLOOD && within(STILL, call.send(&message)).await.is_ok() {
        sent += 1;
    }
    // It has no answer yet; who gives one has something against so much.
    match within(STILL, call.end()).await {
        Err(WireError::Silent(_)) => held(u64::from(sent) * u64::from(CHUNK), "the client"),
        Err(lost) => Err(lost.into()),
        Ok((status, _)) => Err(WireError::Status(Box::new(status)).into()),
    }
}

/// How much was sent to somebody who did not read.
fn held(bytes: u64, who: &str) -> Checked {
    let all = u64::from(FLOOD) * u64::from(CHUNK);
    let figure = format!("{who} stopped after {}", Size(bytes));
    if bytes >= all {
        return Ok(Outcome::fail(
            format!("{who} sent {} that nobody read", Size(bytes)),
            "something on the path takes all that comes: a slow reader costs it its memory or its disk",
            remedies::BACKPRESSURE,
        ));
    }
    Ok(Outcome::pass(figure))
}

/// By a client of tonic's, which compresses by itself.
async fn compressed(path: &Path, encoding: CompressionEncoding) -> Checked {
    const BYTES: u32 = 32 << 10;
    let name = match encoding {
        CompressionEncoding::Gzip => "gzip",
        _ => "zstd",
    };
    let channel = path.connector.connect(&path.server).await?;
    let mut client = ProbeServiceClient::new(channel).send_compressed(encoding).accept_compressed(encoding);
    let step = pb::Step { compressible: true, ..script::payload(BYTES) };
    let request = pb::UnaryRequest { script: Some(script::steps([step])), payload: zeros(BYTES) };
    let fails = |figure: String| {
        Outcome::fail(
            figure,
            format!("something on the path, or the server, has no {name}"),
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
    if answer.payload.len() != BYTES as usize {
        return Ok(fails(format!("{} of {BYTES} bytes came back", answer.payload.len())));
    }
    match there == name && back == name {
        true => Ok(Outcome::pass("in both directions")),
        false => Ok(Outcome::warn(
            format!("{there} to the server, {back} back"),
            "something on the path takes away what compression is agreed on by",
            remedies::COMPRESSION,
        )),
    }
}

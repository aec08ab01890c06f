//! The same checks with `grpc.testing.TestService`, which servers in every language
//! have for gRPC's interoperability tests. That service does not report what it saw.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use shared_proto::testing::{
    EchoStatus, Empty, Payload, ResponseParameters, SimpleRequest, SimpleResponse, StreamingInputCallRequest,
    StreamingInputCallResponse, StreamingOutputCallRequest, StreamingOutputCallResponse,
};
use tonic::{Code, Status, metadata::BinaryMetadataValue};

use crate::{
    Group,
    check::Ask,
    connect,
    flow::{self, LONG, PIECE, zeros},
    life::{self, NOT_ASKED},
    metadata::binary_of,
    modes::{BEAT, BEATS, CHUNK, answered_early, as_sent, ends_first, milliseconds, one_way},
    outcome::{Checked, Outcome, Size},
    path::{Alone, EMPTY_CALL, Path},
    remedies,
    status::{MESSAGE, changed_codes, same_message, three_then_aborted},
    wire::{Unary, Wire, within},
    wire_error::WireError,
};

const UNARY_CALL: &str = "/grpc.testing.TestService/UnaryCall";
const STREAMING_OUTPUT_CALL: &str = "/grpc.testing.TestService/StreamingOutputCall";
const STREAMING_INPUT_CALL: &str = "/grpc.testing.TestService/StreamingInputCall";
const FULL_DUPLEX_CALL: &str = "/grpc.testing.TestService/FullDuplexCall";

const ECHO_INITIAL: &str = "x-grpc-test-echo-initial";
const ECHO_TRAILING: &str = "x-grpc-test-echo-trailing-bin";

/// The checks that are possible here, by group and name.
pub(crate) const ASKED: [(Group, &str, Ask); 20] = [
    (Group::Connect, "round-trip", |path| Box::pin(round_trip(path))),
    (Group::Modes, "unary", |path| Box::pin(unary(path))),
    (Group::Modes, "server-streaming", |path| Box::pin(server_streaming(path))),
    (Group::Modes, "client-streaming", |path| Box::pin(client_streaming(path))),
    (Group::Modes, "full-duplex", |path| Box::pin(full_duplex(path))),
    (Group::Modes, "client-ends-first", |path| Box::pin(client_ends_first(path))),
    (Group::Modes, "server-ends-first", |path| Box::pin(server_ends_first(path))),
    (Group::Modes, "early-answer", |path| Box::pin(early_answer(path))),
    (Group::Status, "codes", |path| Box::pin(codes(path))),
    (Group::Status, "message", |path| Box::pin(message(path))),
    (Group::Status, "after-messages", |path| Box::pin(after_messages(path))),
    (Group::Status, "trailing-metadata", |path| Box::pin(trailing_metadata(path))),
    (Group::Metadata, "ascii", |path| Box::pin(ascii(path))),
    (Group::Flow, "1-mib-down", |path| Box::pin(down(path, 1 << 20))),
    (Group::Flow, "long-upload", |path| Box::pin(long_upload(path))),
    (Group::Flow, "long-download", |path| Box::pin(long_download(path))),
    (Group::Life, life::IDLE, |path| Box::pin(idle(path))),
    (Group::Life, "lasting", |path| Box::pin(lasting(path))),
    (Group::Life, "empty-frames", |path| Box::pin(empty_frames(path))),
    (Group::Life, "1200-calls", |path| Box::pin(many_calls(path))),
];

type Duplex = Alone<StreamingOutputCallRequest, StreamingOutputCallResponse>;

fn payload(size: u32) -> Option<Payload> {
    Some(Payload { r#type: 0, body: zeros(size) })
}

/// Requests messages of these sizes, each sent `interval` after the one before.
fn wanted(sizes: &[u32], interval: Duration) -> StreamingOutputCallRequest {
    let interval_us = i32::try_from(interval.as_micros()).unwrap_or(i32::MAX);
    let wanted = |size: &u32| ResponseParameters {
        size: i32::try_from(*size).unwrap_or(i32::MAX),
        interval_us,
        ..ResponseParameters::default()
    };
    StreamingOutputCallRequest {
        response_parameters: sizes.iter().map(wanted).collect(),
        ..StreamingOutputCallRequest::default()
    }
}

async fn output(path: &Path, request: &StreamingOutputCallRequest) -> Result<Duplex, WireError> {
    let mut call = path.alone(STREAMING_OUTPUT_CALL, HeaderMap::new()).await?;
    call.ask(request).await;
    Ok(call)
}

async fn duplex(path: &Path) -> Result<Duplex, WireError> {
    path.alone(FULL_DUPLEX_CALL, HeaderMap::new()).await
}

async fn round_trip(path: &Path) -> Checked {
    let wire = path.open().await?;
    let ask = async |size: u32| {
        let response_size = i32::try_from(size).unwrap_or(i32::MAX);
        let request = SimpleRequest { response_size, payload: payload(size), ..SimpleRequest::default() };
        wire.unary::<SimpleResponse>(UNARY_CALL, HeaderMap::new(), &request).await.map(drop)
    };
    connect::measured(path, &wire, Some(connect::PROBED), ask).await
}

async fn unary(path: &Path) -> Checked {
    let begun = Instant::now();
    let request = SimpleRequest { response_size: 1000, payload: payload(1000), ..SimpleRequest::default() };
    let answer: Unary<SimpleResponse> =
        path.open().await?.unary(UNARY_CALL, HeaderMap::new(), &request).await?;
    match answer.message.payload.map_or(0, |payload| payload.body.len()) {
        1000 => Ok(Outcome::pass(format!("answered in {}", milliseconds(begun.elapsed())))),
        bytes => Err(WireError::Malformed(format!("{bytes} bytes arrived of 1000")).into()),
    }
}

async fn server_streaming(path: &Path) -> Checked {
    let mut call = output(path, &wanted(&[16; BEATS as usize], BEAT)).await?;
    let mut arrived = Vec::new();
    while call.next().await?.is_some() {
        arrived.push(call.begun.elapsed());
    }
    call.end_well().await?;
    let sent: Vec<_> = (1..=BEATS).map(|number| BEAT * number).collect();
    as_sent("response", &sent, &arrived)
}

/// Only the probe service can report when its messages arrived.
async fn client_streaming(path: &Path) -> Checked {
    let mut call = path.alone(STREAMING_INPUT_CALL, HeaderMap::new()).await?;
    for _ in 0..BEATS {
        call.send(&StreamingInputCallRequest { payload: payload(100), ..Default::default() }).await?;
    }
    call.half_close()?;
    let answer: Option<StreamingInputCallResponse> = call.next().await?;
    call.end_well().await?;
    match answer.map_or(0, |answer| answer.aggregated_payload_size) {
        size if size == 100 * BEATS as i32 => {
            Ok(Outcome::pass(format!("{BEATS} of {BEATS} messages arrived")))
        }
        size => Err(WireError::Malformed(format!("{size} bytes arrived of {}", 100 * BEATS)).into()),
    }
}

async fn full_duplex(path: &Path) -> Checked {
    let mut call = duplex(path).await?;
    let begun = Instant::now();
    for number in 1..=BEATS {
        call.send(&wanted(&[100 + number], Duration::ZERO)).await?;
        match within(path.answer(), call.next()).await {
            Ok(Some(answer))
                if answer.payload.as_ref().is_some_and(|it| it.body.len() as u32 == 100 + number) => {}
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

async fn client_ends_first(path: &Path) -> Checked {
    let mut call = duplex(path).await?;
    call.ask(&wanted(&[16; 3], BEAT)).await;
    let (mut count, mut last) = (0, Duration::ZERO);
    while call.next().await?.is_some() {
        count += 1;
        last = call.begun.elapsed();
    }
    call.end_well().await?;
    match count {
        3 => Ok(Outcome::pass(format!("the server continued for {}", milliseconds(last)))),
        _ => Err(WireError::Malformed(format!("{count} messages arrived of 3")).into()),
    }
}

/// The server ends the call after one message, because most proxies treat a response
/// without messages differently.
async fn server_ends_first(path: &Path) -> Checked {
    let mut call = duplex(path).await?;
    call.send(&wanted(&[16], Duration::ZERO)).await?;
    within(path.answer(), call.next()).await?;
    let begun = Instant::now();
    call.send(&ending(Code::FailedPrecondition, "enough")).await?;
    ends_first(within(path.answer(), call.end()).await, begun)
}

fn ending(code: Code, message: &str) -> StreamingOutputCallRequest {
    let status = EchoStatus { code: code as i32, message: message.to_owned() };
    StreamingOutputCallRequest { response_status: Some(status), ..StreamingOutputCallRequest::default() }
}

async fn early_answer(path: &Path) -> Checked {
    let mut call = duplex(path).await?;
    call.send(&ending(Code::FailedPrecondition, "enough")).await?;
    let chunk = StreamingOutputCallRequest { payload: payload(CHUNK), ..Default::default() };
    let begun = Instant::now();
    while begun.elapsed() < BEAT && call.send(&chunk).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    answered_early(within(path.answer(), call.end()).await.map(|(status, _)| status))
}

/// The status of a unary call that the server ends with `code`.
async fn refused(path: &Path, code: Code, message: &str) -> Result<Status, WireError> {
    // Java servers take OK for an end without a response, and reset the call.
    let status = EchoStatus { code: code as i32, message: message.to_owned() };
    let response_status = Some(status).filter(|_| code != Code::Ok);
    let request = SimpleRequest { response_status, ..SimpleRequest::default() };
    let mut call = path.alone::<_, SimpleResponse>(UNARY_CALL, HeaderMap::new()).await?;
    call.ask(&request).await;
    Ok(call.end().await?.0)
}

async fn codes(path: &Path) -> Checked {
    changed_codes(async |code| refused(path, code, "as asked").await).await
}

async fn message(path: &Path) -> Checked {
    same_message(&refused(path, Code::NotFound, MESSAGE).await?)
}

async fn after_messages(path: &Path) -> Checked {
    let mut call = duplex(path).await?;
    call.send(&wanted(&[100; 3], Duration::ZERO)).await?;
    let mut count = 0;
    while count < 3 && within(path.answer(), call.next()).await?.is_some() {
        count += 1;
    }
    call.ask(&ending(Code::Aborted, "as asked")).await;
    three_then_aborted(count, &call.end().await?.0)
}

async fn trailing_metadata(path: &Path) -> Checked {
    let mut metadata = HeaderMap::new();
    let value = BinaryMetadataValue::from_bytes(&[0, 255, 10]);
    metadata.extend(
        HeaderValue::from_bytes(value.as_encoded_bytes())
            .map(|value| (http::HeaderName::from_static(ECHO_TRAILING), value)),
    );
    let request = SimpleRequest { response_size: 100, ..SimpleRequest::default() };
    let answer: Unary<SimpleResponse> = path.open().await?.unary(UNARY_CALL, metadata, &request).await?;
    match binary_of(&answer.trailers, ECHO_TRAILING) == [[0, 255, 10]] {
        true => Ok(Outcome::pass("1 of 1 entry after the message")),
        false => Ok(Outcome::fail(
            "0 of 1 entry after the message",
            "a hop on the path drops or changes trailers",
            remedies::TRAILERS,
        )),
    }
}

async fn ascii(path: &Path) -> Checked {
    let mut metadata = HeaderMap::new();
    metadata.insert(ECHO_INITIAL, HeaderValue::from_static("there and back"));
    let answer: Unary<SimpleResponse> =
        path.open().await?.unary(UNARY_CALL, metadata, &SimpleRequest::default()).await?;
    match answer.head.get(ECHO_INITIAL).is_some_and(|value| value == "there and back") {
        true => Ok(Outcome::pass("the same in both directions")),
        false => Ok(Outcome::fail(
            "lost on the way there or back",
            "a hop on the path drops or changes metadata",
            remedies::METADATA,
        )),
    }
}

async fn down(path: &Path, size: u32) -> Checked {
    if let Some(skipped) = flow::too_long(path, size.into()) {
        return Ok(skipped);
    }
    let begun = Instant::now();
    let mut call = output(path, &wanted(&[size], Duration::ZERO)).await?;
    let (answer, ended) = flow::answer_and_end(&mut call).await;
    let payload = answer.and_then(|answer| answer.payload).unwrap_or_default();
    flow::passed(path, Size(size.into()), payload.body.len() as u64, ended, begun)
}

async fn long_upload(path: &Path) -> Checked {
    let call = path.alone(STREAMING_INPUT_CALL, HeaderMap::new());
    let message = StreamingInputCallRequest { payload: payload(PIECE), ..Default::default() };
    let arrived = |answer: StreamingInputCallResponse| Some(answer.aggregated_payload_size as u64);
    flow::send_all(path, call, &message, LONG, arrived).await
}

async fn long_download(path: &Path) -> Checked {
    let call = async { output(path, &wanted(&[PIECE; LONG as usize], Duration::ZERO)).await };
    flow::take_all(path, call, |message| message.payload.unwrap_or_default().body.len() as u64).await
}

async fn idle(path: &Path) -> Checked {
    let Some(time) = path.idle else { return Ok(Outcome::skip(NOT_ASKED)) };
    let begun = Instant::now();
    let silent = async {
        let mut call = duplex(path).await?;
        call.send(&wanted(&[16], Duration::ZERO)).await?;
        call.next().await?;
        // Notices a hop that ends the call during the silence.
        if let Ok(Err(lost)) = tokio::time::timeout(time, call.next()).await {
            return Err(lost);
        }
        call.send(&wanted(&[16], Duration::ZERO)).await?;
        if let Err(WireError::Silent(_)) = within(path.answer(), call.next()).await {
            return Err(WireError::silent(time, call.progress()));
        }
        call.half_close()?;
        call.end_well().await.map(drop)
    };
    let silent = async { (silent.await, begun.elapsed()) };
    let (ended, busy) = tokio::join!(silent, busy(path, time));
    life::slept(ended, busy, time)
}

async fn busy(path: &Path, time: Duration) -> Result<Duration, (WireError, Duration)> {
    life::spoken(path, time, duplex(path), || wanted(&[16], Duration::ZERO)).await
}

async fn lasting(path: &Path) -> Checked {
    let Some(time) = path.idle else { return Ok(Outcome::skip(NOT_ASKED)) };
    let (beat, beats) = life::beats(time);
    let call = output(path, &wanted(&vec![16; beats as usize], beat)).await?;
    life::lasted(call, busy(path, time)).await
}

async fn no_payload(wire: Rc<Wire>) -> Result<(), WireError> {
    wire.unary::<Empty>(EMPTY_CALL, HeaderMap::new(), &Empty {}).await.map(drop)
}

async fn many_calls(path: &Path) -> Checked {
    life::calls_on_connections(path, no_payload).await
}

async fn empty_frames(path: &Path) -> Checked {
    life::empty_data(path, no_payload).await
}

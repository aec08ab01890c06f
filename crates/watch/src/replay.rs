//! Makes the calls of a recording again, and says what differs.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::{Duration, Instant},
};

use bytes::Bytes;
use grpc_wire::{
    code_name,
    frames::{Frames, Part},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use timeline::Side;
use tokio::{sync::watch, time::sleep_until};
use tonic::{Code, Status, body::Body};
use tower::ServiceExt as _;
use transport::{Channel, Connector};

use crate::{
    Event, Fields, Pools, Recording, RecordingError, Seen,
    drawing::{code, metadata},
};

/// How long a call is waited for, after the time that it took when it was recorded.
const PATIENCE: Duration = Duration::from_secs(30);

/// A call as it was recorded.
#[derive(Debug, Clone, Default)]
pub struct RecordedCall {
    /// From 1 on.
    pub number: u64,
    /// As in `/package.Service/Method`.
    pub path: String,
    connection: u64,
    begun_us: u64,
    ended_us: u64,
    headers: Fields,
    sent: Vec<Sent>,
    received: Vec<Vec<u8>>,
    end: Option<Seen>,
    /// Why it cannot be made again.
    unfit: Option<&'static str>,
}

/// Something that the client did.
#[derive(Debug, Clone)]
struct Sent {
    at_us: u64,
    /// How many messages of the server it had by then.
    after: usize,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Message(Bytes),
    HalfClose,
    Cancel,
}

/// What may differ: what a server makes up anew for each call.
#[derive(Debug, Default)]
pub struct Ignored {
    /// Fields by their names, with or without that of their message, or by the name of
    /// the message that is in them.
    pub fields: Vec<String>,
    /// What describes the messages.
    pub pools: Pools,
}

impl Ignored {
    fn output(&self, path: &str) -> Option<MessageDescriptor> {
        (!self.fields.is_empty()).then(|| self.pools.method(path)).flatten().map(|method| method.output())
    }

    /// A message without what is ignored.
    fn rest(&self, desc: MessageDescriptor, bytes: &[u8]) -> Option<DynamicMessage> {
        let mut message = DynamicMessage::decode(desc, bytes).ok()?;
        self.strip(&mut message);
        Some(message)
    }

    fn strip(&self, message: &mut DynamicMessage) {
        let fields: Vec<_> = message.fields().map(|(field, _)| field).collect();
        for field in fields {
            let kind = field.kind();
            let names =
                [Some(field.name()), Some(field.full_name()), kind.as_message().map(|it| it.full_name())];
            if self.fields.iter().any(|ignored| names.contains(&Some(ignored))) {
                message.clear_field(&field);
                continue;
            }
            match message.get_field_mut(&field) {
                Value::Message(inner) => self.strip(inner),
                Value::List(items) => items.iter_mut().for_each(|item| self.strip_value(item)),
                Value::Map(entries) => entries.values_mut().for_each(|value| self.strip_value(value)),
                _ => {}
            }
        }
    }

    fn strip_value(&self, value: &mut Value) {
        if let Value::Message(message) = value {
            self.strip(message);
        }
    }
}

/// What came of a call that was made again.
#[derive(Debug)]
pub struct Replayed {
    /// The call.
    pub call: RecordedCall,
    /// What is not as it was, for people; nothing, when all of it is.
    pub differences: Vec<String>,
}

/// The calls of a recording.
///
/// # Errors
///
/// When it cannot be read.
pub fn calls(recording: &mut Recording) -> Result<Vec<RecordedCall>, RecordingError> {
    let mut calls = BTreeMap::<u64, RecordedCall>::new();
    while let Some(Event { at_us, connection, call: number, seen }) = recording.event()? {
        if let Seen::Request { method, path, headers } = seen {
            let is_grpc = headers
                .iter()
                .any(|(name, value)| name == "content-type" && value.starts_with("application/grpc"));
            let unfit = (method != "POST" || !is_grpc).then_some("it is not gRPC");
            let call = RecordedCall {
                number,
                path,
                connection,
                begun_us: at_us,
                headers,
                unfit,
                ..Default::default()
            };
            calls.insert(number, call);
            continue;
        }
        let Some(call) = calls.get_mut(&number) else { continue };
        let after = call.received.len();
        match seen {
            Seen::Message { length, ref bytes, .. } if bytes.len() as u64 != length => {
                call.unfit = Some("the recording has only a part of a message");
            }
            Seen::Message { from: Side::Client, compressed, bytes, .. } => {
                let framed =
                    [&[u8::from(compressed)][..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat();
                call.sent.push(Sent { at_us, after, what: What::Message(framed.into()) });
            }
            Seen::Message { from: Side::Server, bytes, .. } => call.received.push(bytes),
            Seen::HalfClose => call.sent.push(Sent { at_us, after, what: What::HalfClose }),
            Seen::Body { .. } => call.unfit = Some("it is not gRPC"),
            end if end.is_end() => {
                // A client that ends may close its connection before it resets the stream.
                if let Seen::Reset { from: Side::Client, .. } | Seen::Broken { .. } = end {
                    call.sent.push(Sent { at_us, after, what: What::Cancel });
                }
                (call.end, call.ended_us) = (Some(end), at_us);
            }
            _ => {}
        }
    }
    for call in calls.values_mut() {
        if call.end.is_none() {
            call.unfit = Some("the recording does not have its end");
        }
    }
    Ok(calls.into_values().collect())
}

impl RecordedCall {
    /// Why it cannot be made again, if so.
    pub fn unfit(&self) -> Option<&'static str> {
        self.unfit
    }
}

/// Makes the calls again at their times, `speed` times as fast, each on a connection
/// for the one that it was on. A call waits for those that had ended before it began.
/// `told` hears of each as it ends.
///
/// # Errors
///
/// When there is no connection.
pub async fn replay(
    calls: Vec<RecordedCall>,
    connector: &Connector,
    server: &Uri,
    speed: f64,
    ignored: &Ignored,
    mut told: impl FnMut(Replayed),
) -> Result<(), transport::CallError> {
    let mut channels = BTreeMap::<u64, Channel>::new();
    for call in &calls {
        if let Entry::Vacant(place) = channels.entry(call.connection) {
            place.insert(connector.connect(server).await?);
        }
    }
    let first = calls.iter().map(|call| call.begun_us).min().unwrap_or_default();
    let clock = Clock { begun: Instant::now(), first, speed };
    let unended: BTreeSet<_> = calls.iter().map(|call| (call.ended_us, call.number)).collect();
    let unended = watch::Sender::new(unended);
    let mut running = tokio::task::JoinSet::new();
    for call in calls {
        if let Some(channel) = channels.get(&call.connection).cloned() {
            let (server, unended) = (server.clone(), unended.clone());
            running.spawn(async move {
                let before = |(ended_us, _): &(u64, u64)| *ended_us < call.begun_us;
                // Does not fail: this task has a sender.
                let _ = unended.subscribe().wait_for(|unended| !unended.first().is_some_and(before)).await;
                let answer = again(&call, channel, &server, clock.late(call.begun_us)).await;
                unended.send_modify(|unended| _ = unended.remove(&(call.ended_us, call.number)));
                (call, answer)
            });
        }
    }
    while let Some(ended) = running.join_next().await {
        if let Ok((call, answer)) = ended {
            let differences = differences(&call, &answer, ignored);
            told(Replayed { call, differences });
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    begun: Instant,
    /// The time of the first call, in microseconds.
    first: u64,
    speed: f64,
}

impl Clock {
    fn at(&self, at_us: u64) -> tokio::time::Instant {
        let after = Duration::from_micros(at_us.saturating_sub(self.first));
        (self.begun + after.div_f64(self.speed)).into()
    }

    /// The clock of a call that begins now, if that is later than its time.
    fn late(self, begun_us: u64) -> Self {
        let late = Instant::now().saturating_duration_since(self.at(begun_us).into());
        Self { begun: self.begun + late, ..self }
    }
}

/// What came this time.
#[derive(Debug, Default)]
struct Answer {
    received: Vec<Vec<u8>>,
    status: Option<Status>,
    is_cancelled: bool,
}

async fn again(call: &RecordedCall, channel: Channel, server: &Uri, clock: Clock) -> Answer {
    sleep_until(clock.at(call.begun_us)).await;
    let mut answer = Answer::default();
    let (heard, hears) = watch::channel(0);
    let cancel = call.sent.iter().find(|sent| matches!(sent.what, What::Cancel));
    let cancelled = until(cancel.cloned(), clock, hears.clone());
    let body = Body::new(StreamBody::new(requests(call.sent.clone(), clock, hears)));
    let calling = answered(call, channel, server, body, &mut answer, heard);
    let last = call.sent.last().map_or(call.begun_us, |sent| sent.at_us);
    let late = clock.at(last) + PATIENCE;
    let ended = tokio::select! {
        status = calling => Some(status),
        () = cancelled => None,
        () = sleep_until(late) => Some(Status::deadline_exceeded("it took 30 s longer than in the recording")),
    };
    answer.is_cancelled = ended.is_none();
    answer.status = ended;
    answer
}

/// Waits until it is time for what the client did, and it has what it had then. Never
/// comes for nothing.
async fn until(sent: Option<Sent>, clock: Clock, mut hears: watch::Receiver<usize>) {
    let Some(Sent { at_us, after, .. }) = sent else { return std::future::pending().await };
    // Fails when the answer is complete: nothing more is to be waited for.
    let _ = hears.wait_for(|heard| *heard >= after).await;
    sleep_until(clock.at(at_us)).await;
}

/// What the client sends, at its time, and not before it has what it had then.
fn requests(
    sent: Vec<Sent>,
    clock: Clock,
    hears: watch::Receiver<usize>,
) -> impl tokio_stream::Stream<Item = Result<http_body::Frame<Bytes>, Status>> {
    async_stream::stream! {
        for sent in sent {
            until(Some(sent.clone()), clock, hears.clone()).await;
            match sent.what {
                What::Message(message) => yield Ok(http_body::Frame::data(message)),
                What::HalfClose => return,
                What::Cancel => break,
            }
        }
        // It did not end by itself.
        std::future::pending::<()>().await;
    }
}

async fn answered(
    call: &RecordedCall,
    channel: Channel,
    server: &Uri,
    body: Body,
    answer: &mut Answer,
    heard: watch::Sender<usize>,
) -> Status {
    let request = match request(call, server, body) {
        Ok(request) => request,
        Err(error) => return Status::internal(error.to_string()),
    };
    let response = match channel.oneshot(request).await {
        Ok(response) => response,
        Err(status) => return status,
    };
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let (mut body, mut frames) = (response.into_body(), Frames::default());
    let mut message = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(status) => return status,
        };
        if let Some(data) = frame.data_ref() {
            frames.feed(data, |part| match part {
                Part::Begin { .. } => {}
                Part::Data(data) => message.extend_from_slice(data),
                Part::End => answer.received.push(std::mem::take(&mut message)),
            });
            heard.send_replace(answer.received.len());
        }
        if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
            return status;
        }
    }
    Status::internal("the stream ended without a status")
}

fn request(call: &RecordedCall, server: &Uri, body: Body) -> http::Result<Request<Body>> {
    /// What the connection has by itself, or would say something else than it does.
    const LEFT_OUT: [&str; 8] = [
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "user-agent",
        "te",
        "x-grpc-web",
        "x-user-agent",
    ];
    let mut uri = server.clone().into_parts();
    uri.path_and_query = Some(call.path.parse()?);
    let mut request = Request::post(Uri::from_parts(uri)?).body(body)?;
    let headers: HeaderMap = metadata(&call.headers);
    let kept = |name: &HeaderName, value: &HeaderValue| {
        !LEFT_OUT.contains(&name.as_str()) && value.as_bytes() != b"(masked)"
    };
    let kept = headers.iter().filter(|(name, value)| kept(name, value));
    kept.for_each(|(name, value)| _ = request.headers_mut().append(name, value.clone()));
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    Ok(request)
}

fn differences(call: &RecordedCall, answer: &Answer, ignored: &Ignored) -> Vec<String> {
    let mut differences = Vec::new();
    let was = call.end.as_ref().map_or(Code::Unknown, code);
    match &answer.status {
        Some(status) if status.code() != was => {
            let said =
                if status.message().is_empty() { String::new() } else { format!(" ({})", status.message()) };
            differences.push(format!(
                "the status is {}{said}, but was {}",
                code_name(status.code()),
                code_name(was)
            ));
        }
        None if was != Code::Cancelled && !matches!(call.end, Some(Seen::Broken { .. })) => {
            differences.push(format!("it was cancelled, but ended with {}", code_name(was)))
        }
        _ => {}
    }
    let (mut now, mut then) = (&answer.received[..], &call.received[..]);
    if answer.is_cancelled {
        // What still came before the cancel is a matter of chance.
        let both = now.len().min(then.len());
        (now, then) = (&now[..both], &then[..both]);
    }
    if now.len() != then.len() {
        differences.push(format!(
            "the server sent {} messages, but {} in the recording",
            now.len(),
            then.len()
        ));
    }
    let output = ignored.output(&call.path);
    let differ = |now: &Vec<u8>, then: &Vec<u8>| {
        let rest = |bytes: &[u8]| ignored.rest(output.clone()?, bytes);
        now != then && rest(now).zip(rest(then)).is_none_or(|(now, then)| now != then)
    };
    let others: Vec<_> =
        (1..).zip(now.iter().zip(then)).filter(|(_, (now, then))| differ(now, then)).collect();
    let sorted = |messages: &[Vec<u8>]| {
        let mut messages = messages.to_vec();
        messages.sort();
        messages
    };
    match others.first() {
        Some(_) if now.len() == then.len() && sorted(now) == sorted(then) => {
            differences.push("the messages of the server are in another order".to_owned());
        }
        Some((number, (now, then))) => differences.push(format!(
            "message {number} of the server is another one ({} bytes, and were {}); {} are",
            now.len(),
            then.len(),
            others.len()
        )),
        None => {}
    }
    differences
}

//! What was seen of a call, and the calls that are remembered.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use grpc_wire::{
    is_secret,
    timeout::{self, GRPC_TIMEOUT},
};
use http::{HeaderMap, HeaderValue};
use prost::Message as _;
use shared_proto::fourmodes::v1 as pb;
use stack::{Connection, Limits};
use tokio::time::Instant;
use tonic::body::Body;
use uuid::Uuid;

/// How many arrivals are kept of a call.
const ARRIVALS: usize = 1024;

/// How many calls are remembered.
const REMEMBERED: usize = 1024;

/// Of binary metadata: gRPC takes it with padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One call. Times count from its head.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) begun: Instant,
    /// After that the server ends it, and nobody else has to.
    due: Option<Duration>,
    /// An `Observation` of what was known at the beginning. On the wire, since
    /// many calls are remembered and few are asked for.
    head: Vec<u8>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    received: Count,
    sent: Count,
    arrivals: Vec<Duration>,
    half_closed: Option<Duration>,
    cancelled: Option<Duration>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Count {
    messages: u64,
    bytes: u64,
}

impl Call {
    pub(super) fn begin(
        request: &http::Request<Body>,
        instance_id: &str,
        limits: &Limits,
        is_unary: bool,
    ) -> Self {
        let headers = request.headers();
        let deadline = headers.get(&GRPC_TIMEOUT).and_then(timeout::parse);
        let connection = Connection::of(request.extensions());
        let address =
            |address: Option<std::net::SocketAddr>| address.map(|it| it.to_string()).unwrap_or_default();
        let authority = request.uri().authority().map(|authority| authority.to_string());
        let host = || text(headers.get("host").map(HeaderValue::as_bytes).unwrap_or_default());
        let encoding = headers.get("grpc-encoding").map(HeaderValue::as_bytes).unwrap_or(b"identity");
        let head = pb::Observation {
            instance_id: instance_id.to_owned(),
            peer: address(connection.and_then(|it| it.peer)),
            local: address(connection.and_then(|it| it.local)),
            tls: connection.and_then(|it| it.tls.get()).map(|tls| pb::TlsObservation {
                version: tls.version.clone(),
                cipher_suite: tls.cipher_suite.clone(),
                alpn: tls.alpn.clone(),
                server_name: tls.server_name.clone(),
                client_certificate: tls.client_certificate.clone(),
            }),
            connection: connection.map(|it| it.number).unwrap_or_default(),
            authority: authority.unwrap_or_else(host),
            http_version: format!("{:?}", request.version()),
            metadata: metadata(headers),
            deadline: deadline.and_then(wire),
            encoding: text(encoding),
            limits: Some(pb::ServerLimits {
                max_concurrent_streams: limits.streams,
                max_unary_message_bytes: limits.unary_message.into(),
                max_stream_message_bytes: limits.message.into(),
                max_header_list_bytes: limits.headers,
            }),
            ..pb::Observation::default()
        };
        Self {
            begun: Instant::now(),
            due: deadline.or_else(|| is_unary.then_some(limits.unary_deadline)),
            head: head.encode_to_vec(),
            seen: Mutex::default(),
        }
    }

    /// A message is there, with that much payload.
    pub(super) fn received(&self, bytes: usize) {
        let at = self.begun.elapsed();
        let mut seen = self.seen();
        seen.received.add(bytes);
        if seen.arrivals.len() < ARRIVALS {
            seen.arrivals.push(at);
        }
    }

    /// A message was given away.
    pub(super) fn sent(&self, bytes: usize) {
        self.seen().sent.add(bytes);
    }

    pub(super) fn half_closed(&self) {
        let at = self.begun.elapsed();
        self.seen().half_closed.get_or_insert(at);
    }

    /// By the client, or by somebody in between.
    pub(super) fn cancelled(&self) {
        let at = self.begun.elapsed();
        let mut seen = self.seen();
        if !seen.ended {
            seen.cancelled.get_or_insert(at);
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.seen().cancelled.is_some()
    }

    pub(super) fn ended(&self) {
        self.seen().ended = true;
    }

    /// Nobody works on it any more: if it had not ended, it was cancelled, or its
    /// deadline is over.
    pub(super) fn dropped(&self) {
        // The timer that cuts it counts in milliseconds.
        let is_due = self.due.is_some_and(|due| self.begun.elapsed() + Duration::from_millis(1) >= due);
        if !is_due {
            self.cancelled();
        }
        self.ended();
    }

    pub(super) fn observation(&self) -> pb::Observation {
        let head = pb::Observation::decode(self.head.as_slice()).unwrap_or_default();
        let seen = self.seen();
        pb::Observation {
            messages_received: seen.received.messages,
            bytes_received: seen.received.bytes,
            arrivals: seen.arrivals.iter().copied().filter_map(wire).collect(),
            half_closed: seen.half_closed.and_then(wire),
            cancelled: seen.cancelled.and_then(wire),
            messages_sent: seen.sent.messages,
            bytes_sent: seen.sent.bytes,
            ended: seen.ended,
            ..head
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

pub(super) fn wire(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

fn metadata(headers: &HeaderMap) -> Vec<pb::MetadataEntry> {
    let mut entries = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        if is_secret(name.as_str()) {
            entries.push(pb::MetadataEntry { key: name.to_string(), ..Default::default() });
        } else if name.as_str().ends_with("-bin") {
            // Several values of a key may come as one.
            for value in value.as_bytes().split(|byte| *byte == b',') {
                let value = value.trim_ascii();
                let (text, binary) = match BASE64.decode(value) {
                    Ok(binary) => (String::new(), binary),
                    Err(_) => (text(value), Vec::new()),
                };
                entries.push(pb::MetadataEntry { key: name.to_string(), text, binary });
            }
        } else {
            let text = text(value.as_bytes());
            entries.push(pb::MetadataEntry { key: name.to_string(), text, binary: Vec::new() });
        }
    }
    entries
}

fn text(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value {
        match byte {
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The newest calls that have an id.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    calls: HashMap<Uuid, Arc<Call>>,
    /// The oldest first, each id once.
    order: VecDeque<Uuid>,
}

impl Memory {
    /// In the place of an earlier one with that id.
    pub(super) fn remember(&self, id: Uuid, call: Arc<Call>) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.calls.insert(id, call).is_some() {
            remembered.order.retain(|known| *known != id);
        }
        remembered.order.push_back(id);
        if remembered.order.len() > REMEMBERED
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.calls.remove(&oldest);
        }
    }

    pub(super) fn find(&self, id: Uuid) -> Option<Arc<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).calls.get(&id).cloned()
    }
}

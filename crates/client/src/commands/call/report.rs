//! What a call came to.

use std::{
    fmt::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use indicatif::HumanBytes;
use serde_json::{Map, Value, json};
use timeline::words::{counted, paragraph, printable};
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use transport::Traffic;

/// What any terminal has.
const COLUMNS: usize = 80;

/// Messages of one side. They count also when the call is dropped.
#[derive(Debug, Default)]
pub(super) struct Counted {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Counted {
    /// How many there are with this one.
    pub(super) fn add(&self, bytes: usize) -> u64 {
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.messages.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

/// The time from one message to the next.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    count: u32,
    sum: Duration,
    least: Option<Duration>,
    most: Duration,
}

impl Gaps {
    pub(super) fn add(&mut self, gap: Duration) {
        self.count += 1;
        self.sum += gap;
        self.least = Some(self.least.map_or(gap, |least| least.min(gap)));
        self.most = self.most.max(gap);
    }
}

/// One call, or the last of several. Times count from where the call begins.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) method: String,
    pub(super) connect: Option<Duration>,
    pub(super) tls: Option<Duration>,
    pub(super) headers: Option<Duration>,
    pub(super) first: Option<Duration>,
    pub(super) last: Option<Duration>,
    pub(super) trailers: Option<Duration>,
    pub(super) gaps: Gaps,
    pub(super) sent: Arc<Counted>,
    pub(super) received: Counted,
    /// Of HTTP/2, below TLS, with the reflection.
    pub(super) wire: (u64, u64),
    /// Of a method with one response: on one line, and for people.
    pub(super) response: Option<(String, String)>,
    /// Of a method with many responses, one per line: those that are shown below the diagram.
    pub(super) responses: String,
    /// How many there is no room for.
    pub(super) left_out: u64,
    pub(super) head: MetadataMap,
    pub(super) tail: MetadataMap,
    pub(super) shows_metadata: bool,
    /// How many calls ended well.
    pub(super) calls: u64,
}

impl Report {
    /// Keeps a response for the end.
    pub(super) fn keep(&mut self, line: impl FnOnce() -> String) {
        /// In bytes.
        const ROOM: usize = 1 << 20;
        if self.responses.len() >= ROOM {
            self.left_out += 1;
            return;
        }
        self.responses.push_str(&line());
        self.responses.push('\n');
    }

    pub(super) fn passed(&mut self, traffic: &Traffic) {
        self.wire = (traffic.sent(), traffic.received());
    }

    pub(super) fn json(&self) -> Value {
        let mut value = json!({
            "method": self.method,
            "calls": self.calls,
            "sent": { "messages": self.sent.messages(), "bytes": self.sent.bytes() },
            "received": { "messages": self.received.messages(), "bytes": self.received.bytes() },
            "connection": { "sent_bytes": self.wire.0, "received_bytes": self.wire.1 },
        });
        for (name, time) in self.times() {
            value[format!("{}_ms", name.replace(' ', "_").to_lowercase())] = milliseconds(time);
        }
        if let Some(least) = self.gaps.least {
            let mean = self.gaps.sum / self.gaps.count.max(1);
            value["gaps_ms"] = json!({
                "least": milliseconds(least), "mean": milliseconds(mean), "most": milliseconds(self.gaps.most),
            });
        }
        if let Some((line, _)) = &self.response {
            value["response"] = serde_json::from_str(line).unwrap_or(Value::Null);
        }
        if self.shows_metadata {
            value["headers"] = metadata_json(&self.head);
            value["trailers"] = metadata_json(&self.tail);
        }
        value
    }

    fn times(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let all = [
            ("connect", self.connect),
            ("TLS", self.tls),
            ("headers", self.headers),
            ("first message", self.first),
            ("last message", self.last.filter(|_| self.received.messages() > 1)),
            ("trailers", self.trailers),
        ];
        all.into_iter().filter_map(|(name, time)| Some((name, time?)))
    }

    /// Headers and trailers, a line each.
    pub(super) fn metadata(&self) -> String {
        let mut text = String::new();
        for (what, metadata) in [("header ", &self.head), ("trailer", &self.tail)] {
            for (key, value) in entries(metadata) {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{what}  {}: {}", printable(key), printable(&value));
            }
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((_, readable)) = &self.response {
            writeln!(f, "{readable}\n")?;
        }
        if !self.responses.is_empty() {
            writeln!(f, "{}", self.responses)?;
        }
        if self.left_out > 0 {
            let more = counted(self.left_out, "more response");
            writeln!(f, "{more} not shown: --quiet prints all, --record FILE keeps them\n")?;
        }
        if self.shows_metadata {
            f.write_str(&self.metadata())?;
        }
        let times: Vec<_> = self.times().map(|(name, time)| format!("{name} {}", shown(time))).collect();
        if !times.is_empty() {
            writeln!(f, "{}", paragraph("", &times.join(", "), COLUMNS))?;
        }
        let side =
            |side: &Counted| format!("{}, {}", counted(side.messages(), "message"), HumanBytes(side.bytes()));
        write!(f, "sent {}; received {}", side(&self.sent), side(&self.received))?;
        if let Some(least) = self.gaps.least {
            let mean = self.gaps.sum / self.gaps.count.max(1);
            write!(f, "\ngaps: {} to {}, {} on average", shown(least), shown(self.gaps.most), shown(mean))?;
        }
        Ok(())
    }
}

fn shown(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{seconds:.3} s"),
    }
}

fn milliseconds(time: Duration) -> Value {
    (time.as_micros() as f64 / 1e3).into()
}

fn entries(metadata: &MetadataMap) -> impl Iterator<Item = (&str, String)> {
    metadata.iter().map(|entry| match entry {
        KeyAndValueRef::Ascii(key, value) => {
            (key.as_str(), String::from_utf8_lossy(value.as_encoded_bytes()).into_owned())
        }
        KeyAndValueRef::Binary(key, value) => {
            (key.as_str(), String::from_utf8_lossy(value.as_encoded_bytes()).into_owned())
        }
    })
}

fn metadata_json(metadata: &MetadataMap) -> Value {
    let mut fields = Map::new();
    for (key, value) in entries(metadata) {
        if let Value::Array(values) = fields.entry(key).or_insert_with(|| json!([])) {
            values.push(value.into());
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_for_which_there_is_no_room_are_counted() {
        let mut report = Report::default();
        (0..20).for_each(|n| report.keep(|| format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(100_000))));
        let text = report.to_string();
        assert!(text.contains("{\"n\":10,") && !text.contains("{\"n\":11,"), "{} bytes", text.len());
        assert!(text.contains("\n9 more responses not shown: --quiet prints all"), "{} bytes", text.len());
    }
}

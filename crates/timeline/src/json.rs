//! One JSON object a line. The field names are documented in `docs/output.md` and do
//! not change.

use std::{
    io::{self, Write},
    time::Duration,
};

use grpc_wire::code_name;
use http::HeaderMap;
use serde_json::{Map, Value, json};
use tonic_types::StatusExt as _;

use crate::{Event, Kind, Outcome, Renderer, Side, details, result, words::json_line};

/// Writes events as lines of JSON.
#[derive(Debug)]
pub struct Json<W> {
    out: W,
    quiet: bool,
}

impl<W: Write> Json<W> {
    /// With `quiet` only what the user asked for is written.
    pub fn new(out: W, quiet: bool) -> Self {
        Self { out, quiet }
    }

    fn write(&mut self, value: &Value) -> io::Result<()> {
        self.out.write_all(json_line(value).as_bytes())?;
        self.out.flush()
    }
}

impl<W: Write + Send> Renderer for Json<W> {
    fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        self.write(&event.json())
    }

    fn line(&mut self, at: Duration, text: &str) -> io::Result<()> {
        self.write(&json!({ "type": "line", "at_ms": milliseconds(at), "text": text }))
    }

    fn outcome(&mut self, outcome: &Outcome) -> io::Result<()> {
        let Outcome { mode, scenario, value, failed, .. } = outcome;
        self.write(&result(mode, scenario, value.clone(), failed.as_ref()))
    }
}

impl Event<'_> {
    /// As a line of the output has it.
    pub fn json(&self) -> Value {
        let (kind, fields) = kind_and_fields(&self.kind);
        let mut line = Map::new();
        line.insert("type".into(), kind.into());
        line.insert("at_ms".into(), milliseconds(self.at));
        line.insert("call".into(), self.client.into());
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        Value::Object(line)
    }
}

fn kind_and_fields(kind: &Kind<'_>) -> (&'static str, Value) {
    match kind {
        Kind::Reconnect { attempt, after, reason } => (
            "reconnect",
            json!({ "attempt": attempt, "after_ms": after.as_millis() as u64, "reason": reason }),
        ),
        Kind::Connected { server } => ("connected", json!({ "server": server.to_string() })),
        Kind::Ejected { server, time, reason } => (
            "ejected",
            json!({ "server": server.to_string(), "for_ms": time.as_millis() as u64, "reason": reason }),
        ),
        Kind::Request { path, metadata, server } => {
            let mut request = json!({ "from": "client", "path": path, "metadata": fields(metadata) });
            if let Some(server) = server {
                request["server"] = server.to_string().into();
            }
            ("headers", request)
        }
        Kind::Response { http, metadata } => (
            "headers",
            json!({ "from": "server", "http_status": http.as_u16(), "metadata": fields(metadata) }),
        ),
        Kind::Message { from, number, message } => (
            "message",
            json!({
                "from": from,
                "number": number,
                "bytes": message.bytes.len(),
                "value": message.json(),
            }),
        ),
        Kind::Exchange { from, fields, .. } => {
            let (kind, from) = match from {
                Side::Client => ("request", "client"),
                Side::Server => ("response", "server"),
            };
            let mut fields = (*fields).clone();
            fields["from"] = from.into();
            (kind, fields)
        }
        Kind::HalfClose => ("half_close", json!({ "from": "client" })),
        Kind::Trailers { status, only, metadata } => (
            "trailers",
            json!({
                "from": "server",
                "only": only,
                "code": code_name(status.code()),
                "message": status.message(),
                "details": details(&status.get_error_details()),
                "metadata": fields(metadata),
            }),
        ),
        Kind::Cancel => ("cancel", json!({ "from": "client" })),
        Kind::Broken { reason } => ("broken", json!({ "reason": reason })),
        Kind::Sent { from, what, text } => ("sent", json!({ "from": from, "what": what, "text": text })),
        Kind::Note(text) => ("note", json!({ "text": text })),
    }
}

/// With microseconds as the last digits.
fn milliseconds(at: Duration) -> Value {
    (at.as_micros() as f64 / 1e3).into()
}

/// A key that comes several times has its values joined, as HTTP has it.
fn fields(metadata: &HeaderMap) -> Value {
    let mut fields = Map::new();
    for (name, value) in metadata {
        let value = match value.is_sensitive() {
            true => "***".into(),
            false => String::from_utf8_lossy(value.as_bytes()),
        };
        match fields.get_mut(name.as_str()) {
            Some(Value::String(before)) => {
                before.push_str(", ");
                before.push_str(&value);
            }
            _ => {
                fields.insert(name.to_string(), value.into());
            }
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_can_happen() {
        let drawn = crate::sample::drawn(Json::new(Vec::new(), false)).unwrap();
        insta::assert_snapshot!(String::from_utf8(drawn.out).unwrap());
    }
}

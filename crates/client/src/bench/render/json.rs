//! One JSON object a line. The field names are documented in the README and do
//! not change.

use std::io::{self, Write};

use serde_json::{Value, json};
use timeline::words::json_line;

use super::Renderer;
use crate::bench::{Amount, Bench, Summary, report::Measured};

pub(super) struct Json<W> {
    out: W,
    asked: Value,
}

impl<W: Write> Json<W> {
    pub(super) fn new(out: W, bench: &Bench) -> Self {
        let mut asked = json!({
            "message_bytes": bench.size,
            "concurrency": bench.concurrency,
            "connections": bench.connections,
        });
        match bench.amount {
            Amount::Messages(messages) => asked["messages"] = messages.into(),
            Amount::Duration(duration) => asked["duration_seconds"] = duration.as_secs_f64().into(),
        }
        if let Some(rate) = bench.rate {
            asked["rate"] = rate.into();
        }
        Self { out, asked }
    }

    fn write(&mut self, value: &Value) -> io::Result<()> {
        self.out.write_all(json_line(value).as_bytes())?;
        self.out.flush()
    }
}

impl<W: Write + Send> Renderer for Json<W> {
    fn measured(&mut self, measured: &Measured) -> io::Result<()> {
        self.write(&measured.json())
    }

    fn finish(&mut self, summary: &Summary<'_>) -> io::Result<()> {
        let mut value = self.asked.clone();
        value["measured"] =
            summary.measured.iter().filter(|measured| measured.outcome.is_ok()).count().into();
        value["left_out"] =
            summary.measured.iter().filter(|measured| measured.outcome.is_err()).count().into();
        let recommendations = summary.recommendations.iter().map(|said| {
            let mut value = json!({ "goal": said.goal });
            if let Some(way) = said.way {
                value["way"] = json!(way);
            }
            value["sentence"] = said.sentence.as_str().into();
            value["reason"] = said.reason.as_str().into();
            value["price"] = said.price.as_str().into();
            value
        });
        value["recommendations"] = recommendations.collect();
        value["seconds"] = summary.took.as_secs_f64().into();
        let mut line = json!({
            "type": "result",
            "mode": "all",
            "scenario": "bench",
            "ok": summary.failure.is_none(),
            "value": value,
        });
        if let Some(failure) = summary.failure {
            line["error"] = failure.json();
        }
        self.write(&line)
    }
}

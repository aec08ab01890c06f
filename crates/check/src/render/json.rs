//! One JSON object a line. The field names are documented in `docs/check.md` and do
//! not change.

use std::io::{self, Write};

use serde_json::{Value, json};
use timeline::{result, words::json_line};

use crate::{
    outcome::Verdict,
    report::{Ended, Renderer, Summary},
};

pub(crate) struct Json<W>(W);

impl<W: Write> Json<W> {
    pub(crate) fn new(out: W) -> Self {
        Self(out)
    }

    fn write(&mut self, value: &Value) -> io::Result<()> {
        self.0.write_all(json_line(value).as_bytes())?;
        self.0.flush()
    }
}

impl<W: Write + Send> Renderer for Json<W> {
    fn ended(&mut self, Ended { group, name, time, outcome, evidence, .. }: &Ended) -> io::Result<()> {
        self.write(&json!({
            "type": "check",
            "group": group.name(),
            "name": name,
            "outcome": outcome.verdict.name(),
            "figure": outcome.figure,
            "cause": outcome.cause,
            "remedy": outcome.remedy,
            "evidence": evidence,
            "ms": time.as_millis() as u64,
        }))
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        let mut value = json!({});
        for verdict in Verdict::ALL {
            value[verdict.name()] = summary.count(verdict).into();
        }
        value["seconds"] = summary.time.as_secs_f64().into();
        let mut line = result("all", "check", value, summary.failed.as_ref());
        line["ok"] = summary.is_ok().into();
        self.write(&line)
    }
}

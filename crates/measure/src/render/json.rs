//! One JSON object a line. The field names are documented in `docs/measure.md` and do
//! not change.

use std::io::{self, Write};

use serde_json::{Value, json};
use timeline::{result, words::json_line};

use crate::{
    Amount, Request,
    renderer::{Renderer, Summary},
    report::Measured,
};

pub(crate) struct Json<W> {
    out: W,
    asked: Value,
}

impl<W: Write> Json<W> {
    pub(crate) fn new(out: W, request: &Request) -> Self {
        let mut asked = json!({
            "concurrency": request.concurrency,
            "connections": request.connections,
        });
        match &request.call {
            Some(call) => asked["method"] = call.path.path().into(),
            None => asked["message_bytes"] = request.size.into(),
        }
        match request.amount {
            Amount::Messages(messages) => asked["messages"] = messages.into(),
            Amount::Duration(duration) => asked["duration_seconds"] = duration.as_secs_f64().into(),
        }
        if let Some(rate) = request.rate {
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
            if let Some(pattern) = said.pattern {
                value["way"] = json!(pattern);
            }
            value["sentence"] = said.sentence.as_str().into();
            value["reason"] = said.reason.as_str().into();
            value["price"] = said.price.as_str().into();
            value
        });
        value["recommendations"] = recommendations.collect();
        value["seconds"] = summary.took.as_secs_f64().into();
        self.write(&result("all", "measure", value, summary.failed.as_ref()))
    }
}

//! What draws events.

use std::{io, time::Duration};

use serde_json::{Value, json};

use crate::{Event, Side};

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The name of its mode, or of none.
    pub mode: &'static str,
    /// The name of what was run.
    pub scenario: &'static str,
    /// What the scenario found out, also when it did not get to its end.
    pub value: Value,
    /// The same for people.
    pub text: String,
    /// Why it did not end well.
    pub failed: Option<Failed>,
}

/// Why a run did not end well, in the words of each format.
#[derive(Debug)]
pub struct Failed {
    /// The name of a status, or another word in capital letters.
    pub code: &'static str,
    /// What was wrong, for people.
    pub message: String,
    /// All of it, for programs.
    pub json: Value,
}

/// The last line of every output in JSON. The names of its fields are documented and
/// do not change.
pub fn result(mode: &str, scenario: &str, value: Value, failed: Option<&Failed>) -> Value {
    let mut line = json!({
        "type": "result",
        "mode": mode,
        "scenario": scenario,
        "ok": failed.is_none(),
        "value": value,
    });
    if let Some(failed) = failed {
        line["error"] = failed.json.clone();
    }
    line
}

/// Draws events in one format.
pub trait Renderer: Send {
    /// Something has happened.
    ///
    /// # Errors
    ///
    /// When it cannot be written; so with the others.
    fn event(&mut self, event: &Event<'_>) -> io::Result<()>;
    /// A line of what the user asked for, where that is more than a result at
    /// the end.
    fn line(&mut self, _at: Duration, _text: &str) -> io::Result<()> {
        Ok(())
    }
    /// What one side says that it does, where that is to be heard.
    fn aside(&mut self, _at: Duration, _by: Side, _text: &str) -> io::Result<()> {
        Ok(())
    }
    /// Nothing has happened for a moment.
    fn idle(&mut self, _now: Duration) -> io::Result<()> {
        Ok(())
    }
    /// The run has ended.
    fn outcome(&mut self, outcome: &Outcome) -> io::Result<()>;
}

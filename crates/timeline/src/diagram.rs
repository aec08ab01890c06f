//! The diagram alone, for a program that makes its own calls.

use std::io::{self, Write};

use http::HeaderMap;
use indicatif::ProgressBar;
use prost_reflect::DescriptorPool;
use serde_json::Value;
use tonic::transport::Channel;

use crate::{Explain, Outcome, Renderer, Side, Tap, Text, Timeline};

/// Draws the calls on the channels that it watches as a sequence diagram. It draws what
/// really passes, line by line as it happens.
///
/// A clone draws into the same diagram.
#[derive(Debug, Clone)]
pub struct Diagram {
    timeline: Timeline,
}

impl Diagram {
    /// Draws on stdout, with times since now. If stdout is a terminal, its width and
    /// colours are used. `pool` describes the messages, and `explain` says why a call
    /// broke. Call this within a runtime.
    pub fn on_stdout(pool: &DescriptorPool, explain: Explain) -> Self {
        Self::new(Text::to_stdout(io::stdout(), false), pool, explain)
    }

    /// Draws without times and colours, 100 columns wide, so that the same order of
    /// events gives the same text.
    pub fn timeless(out: impl Write + Send + 'static, pool: &DescriptorPool, explain: Explain) -> Self {
        Self::new(Text::timeless(out), pool, explain)
    }

    fn new(text: Text<impl Write + Send + 'static>, pool: &DescriptorPool, explain: Explain) -> Self {
        let renderers: Vec<Box<dyn Renderer>> = vec![Box::new(text.brief())];
        Self { timeline: Timeline::new(renderers, Some(pool.clone()), explain, ProgressBar::hidden()) }
    }

    /// Returns a channel whose calls are drawn.
    pub fn watch(&self, channel: Channel) -> Tap {
        self.watch_as("client", channel)
    }

    /// The same with a name, for several clients.
    pub fn watch_as(&self, client: &str, channel: Channel) -> Tap {
        Tap::new(channel, self.timeline.clone(), HeaderMap::new(), client, None)
    }

    /// Draws an action of the client alone.
    pub fn at_client(&self, text: &str) {
        self.timeline.draw(|renderer, now| renderer.aside(now, Side::Client, text));
    }

    /// Draws an action of the server alone.
    pub fn at_server(&self, text: &str) {
        self.timeline.draw(|renderer, now| renderer.aside(now, Side::Server, text));
    }

    /// Hides calls that begin from now on, or shows them again.
    pub fn hush(&self, hushed: bool) {
        self.timeline.hush(hushed);
    }

    /// Draws the messages that a fold held back, and nothing after that, even if a call
    /// is still ending.
    ///
    /// # Errors
    ///
    /// When the diagram could not be written.
    pub fn end(&self) -> io::Result<()> {
        self.timeline.finish(&Outcome {
            mode: "",
            scenario: "",
            value: Value::Null,
            text: String::new(),
            failed: None,
        });
        self.timeline.error().map_or(Ok(()), Err)
    }
}

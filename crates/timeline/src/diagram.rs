//! The diagram by itself, for a program that makes calls of its own.

use std::io::{self, Write};

use http::HeaderMap;
use indicatif::ProgressBar;
use prost_reflect::DescriptorPool;
use serde_json::Value;
use tonic::transport::Channel;

use crate::{Explain, Outcome, Renderer, Side, Tap, Text, Timeline};

/// Draws the calls on the channels that it watches as a sequence diagram, from
/// what really passes, a line at a time while it happens.
///
/// A clone draws into the same diagram.
#[derive(Debug, Clone)]
pub struct Diagram {
    timeline: Timeline,
}

impl Diagram {
    /// On stdout, as wide and as colourful as the terminal that it is, if it is
    /// one, with times since now. `pool` tells what is in the messages, `explain` why
    /// a call broke. To be called within a runtime.
    pub fn on_stdout(pool: &DescriptorPool, explain: Explain) -> Self {
        Self::new(Text::to_stdout(io::stdout(), false), pool, explain)
    }

    /// Without times and colours, 100 columns wide: what happens in the same
    /// order is the same text.
    pub fn timeless(out: impl Write + Send + 'static, pool: &DescriptorPool, explain: Explain) -> Self {
        Self::new(Text::timeless(out), pool, explain)
    }

    fn new(text: Text<impl Write + Send + 'static>, pool: &DescriptorPool, explain: Explain) -> Self {
        let renderers: Vec<Box<dyn Renderer>> = vec![Box::new(text.brief())];
        Self { timeline: Timeline::new(renderers, Some(pool.clone()), explain, ProgressBar::hidden()) }
    }

    /// A channel whose calls are drawn.
    pub fn watch(&self, channel: Channel) -> Tap {
        self.watch_as("client", channel)
    }

    /// Likewise, with a name, where there are several clients.
    pub fn watch_as(&self, client: &str, channel: Channel) -> Tap {
        Tap::new(channel, self.timeline.clone(), HeaderMap::new(), client, None)
    }

    /// Something that the client does by itself.
    pub fn at_client(&self, text: &str) {
        self.timeline.draw(|renderer, now| renderer.aside(now, Side::Client, text));
    }

    /// Something that the server does by itself.
    pub fn at_server(&self, text: &str) {
        self.timeline.draw(|renderer, now| renderer.aside(now, Side::Server, text));
    }

    /// Leaves out the calls that begin from now on, or draws them again.
    pub fn hush(&self, hushed: bool) {
        self.timeline.hush(hushed);
    }

    /// Draws what was held back of a long run of messages, and nothing after
    /// that, although a call may still be winding up.
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

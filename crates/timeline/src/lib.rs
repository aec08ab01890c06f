//! Records the events on the calls of a run, in order, and passes them to renderers.
//!
//! Events come from a [`Tap`] on the channel, which sees the messages, above HTTP/2.
//! They go to the renderers of a [`Timeline`] immediately. A [`Diagram`] combines these
//! for a program that makes its own calls.
//!
//! This crate depends on no service and no transport. It is given the descriptors of
//! the messages, the renderers, and a function that explains why a call broke.

mod compression;
mod detail;
mod diagram;
mod event;
mod fold;
#[cfg(feature = "fuzzing")]
mod fuzzed;
mod json;
mod mermaid;
mod message;
mod raw;
mod renderer;
#[cfg(test)]
mod sample;
mod tap;
mod text;
mod timeline;
pub mod words;

#[cfg(feature = "fuzzing")]
pub use self::fuzzed::timeline;
pub use self::{
    detail::{Detail, details},
    diagram::Diagram,
    event::{Event, Kind, Side},
    json::Json,
    mermaid::Mermaid,
    message::Message,
    renderer::{Failed, Outcome, Renderer, result},
    tap::{Answer, Tap, encoding},
    text::Text,
    timeline::{Explain, Stage, Timeline},
};

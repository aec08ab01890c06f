//! What happened on the calls of a run, in order, and who gets to see it.
//!
//! Events come from a [`Tap`] on the channel, which sits at the messages, above
//! HTTP/2, and go to the renderers of a [`Timeline`] at once. A [`Diagram`] is all of
//! that for a program that makes calls of its own.
//!
//! This crate knows no service and no transport: it is handed the descriptors of the
//! messages, the renderers, and a function that says why a call broke.

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

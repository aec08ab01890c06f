//! Messages as JSON, by protobuf's mapping:
//! <https://protobuf.dev/programming-guides/json/>.

mod known;
mod objects;
mod read;
mod scalar;
mod write;

pub use self::{
    objects::{Object, Objects, ObjectsError},
    read::message,
    write::{Names, append, readable, text},
};

/// Why JSON is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}{}: {reason}", at(.path))]
pub struct Misfit {
    /// Where it is in the message, such as `quote.prices[2]`; empty for all of it.
    pub path: String,
    /// What was expected, and what is there.
    pub reason: String,
    /// From 1.
    pub line: u64,
    /// From 1, in bytes. What is wrong ends here.
    pub column: u64,
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(", at {path}") }
}

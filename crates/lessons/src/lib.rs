//! The traps that a first gRPC service in Rust falls into: each one a file, with
//! the code that does and the code that does not beside each other, both to be
//! run. They share a server on a free port ([`serve`]), four small services
//! ([`proto`]) and the client's diagram of what passes on the wire.

pub mod proto;
pub mod serve;
mod teach;

// In the order in which they are taught.
pub mod cancelled_commit;
pub mod endless_shutdown;
pub mod eof_is_not_commit;
pub mod lost_in_lag;
pub mod one_channel;
pub mod retry_twice;
pub mod unbounded;
pub mod wrong_mode;

use std::{fmt::Display, pin::Pin, time::Duration};

pub use teach::{index, markdown, teach};

/// All lessons, in order.
pub static LESSONS: [&Lesson; 8] = [
    &eof_is_not_commit::LESSON,
    &endless_shutdown::LESSON,
    &one_channel::LESSON,
    &retry_twice::LESSON,
    &lost_in_lag::LESSON,
    &wrong_mode::LESSON,
    &unbounded::LESSON,
    &cancelled_commit::LESSON,
];

/// After this long without a word, where one would come within milliseconds, a
/// lesson says that something hangs.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A trap, and the way around it.
#[derive(Debug)]
pub struct Lesson {
    /// What it is called; its file has the same name, with underscores.
    pub name: &'static str,
    /// The trap, in one line.
    pub line: &'static str,
    /// The code of a first attempt, and what came of it.
    pub broken: fn(client::Diagram) -> Half,
    /// The code that does it right, likewise.
    pub fixed: fn(client::Diagram) -> Half,
    /// Why it goes wrong.
    pub why: &'static str,
    /// How it shows in a service.
    pub recognise: &'static str,
    /// What to do.
    pub cure: &'static str,
}

/// Half of a lesson while it runs; then, what was lost or hung, or was not.
pub type Half = Pin<Box<dyn Future<Output = anyhow::Result<String>>>>;

/// A half whose outcome is a value of its own.
pub fn half<T: Display>(outcome: impl Future<Output = anyhow::Result<T>> + 'static) -> Half {
    Box::pin(async { Ok(outcome.await?.to_string()) })
}

impl Lesson {
    /// The lesson of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        LESSONS.into_iter().find(|lesson| lesson.name == name)
    }

    /// Where its code is, from the root of the repository.
    pub fn source(&self) -> String {
        format!("crates/lessons/src/{}.rs", self.name.replace('-', "_"))
    }
}

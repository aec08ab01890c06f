//! The traps that a first gRPC service in Rust falls into: each one a file, with
//! the code that does and the code that does not beside each other, both to be
//! run. They share a server on a free port ([`serve`]), some small services
//! ([`proto`]) and the client's diagram of what passes on the wire.

pub mod network;
pub mod proto;
pub mod serve;
mod teach;

// The lessons.
pub mod bidi_deadlock;
pub mod cancelled_commit;
pub mod deadline_ends_nothing;
pub mod early_answer;
pub mod endless_shutdown;
pub mod eof_is_not_commit;
pub mod hot_reconnect;
pub mod lost_in_lag;
pub mod one_channel;
pub mod reconnect_gap;
pub mod retry_twice;
pub mod silent_peer;
pub mod small_messages;
pub mod unbounded;
pub mod wrong_mode;

use std::{fmt::Display, pin::Pin, time::Duration};

pub use teach::{index, markdown, teach};

/// All lessons, in order.
pub static LESSONS: [&Lesson; 15] = [
    &eof_is_not_commit::LESSON,
    &small_messages::LESSON,
    &bidi_deadlock::LESSON,
    &deadline_ends_nothing::LESSON,
    &endless_shutdown::LESSON,
    &silent_peer::LESSON,
    &one_channel::LESSON,
    &retry_twice::LESSON,
    &lost_in_lag::LESSON,
    &reconnect_gap::LESSON,
    &early_answer::LESSON,
    &wrong_mode::LESSON,
    &hot_reconnect::LESSON,
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
    pub broken: fn(timeline::Diagram) -> Half,
    /// The code that does it right, likewise.
    pub fixed: fn(timeline::Diagram) -> Half,
    /// Why it goes wrong.
    pub why: &'static str,
    /// How it shows in a service.
    pub recognise: &'static str,
    /// What to do.
    pub cure: &'static str,
}

/// Half of a lesson while it runs; then, what was lost or hung, or was not. It
/// fails when it cannot be run on this machine.
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

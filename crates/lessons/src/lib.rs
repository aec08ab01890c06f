//! The traps of a first gRPC service in Rust. Each lesson is a file with the code
//! that fails next to the code that works, and both can be run. The lessons share
//! a server on a free port ([`serve`]), some small services ([`proto`]) and the
//! client's diagram of the traffic.

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

/// A lesson reports a hang when nothing arrives for this long. Otherwise something
/// arrives within milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A trap, and the way around it.
#[derive(Debug)]
pub struct Lesson {
    /// Its name. Its file has the same name, with underscores.
    pub name: &'static str,
    /// The trap, in one line.
    pub line: &'static str,
    /// The code of a first attempt, and what came of it.
    pub broken: fn(timeline::Diagram) -> Half,
    /// The code that does it right, and what came of it.
    pub fixed: fn(timeline::Diagram) -> Half,
    /// Why it goes wrong.
    pub why: &'static str,
    /// How it shows in a service.
    pub recognise: &'static str,
    /// What to do.
    pub cure: &'static str,
    /// Whether other Rust stacks have the trap. `comparison/connectrpc/tests/traps` tries it.
    pub elsewhere: &'static str,
}

/// Runs half of a lesson, and returns what was lost or hung, or that nothing was.
/// Fails when the lesson cannot be run on this machine.
pub type Half = Pin<Box<dyn Future<Output = anyhow::Result<String>>>>;

/// Makes a half of a function whose outcome can be displayed.
pub fn half<T: Display>(outcome: impl Future<Output = anyhow::Result<T>> + 'static) -> Half {
    Box::pin(async { Ok(outcome.await?.to_string()) })
}

impl Lesson {
    /// The lesson of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        LESSONS.into_iter().find(|lesson| lesson.name == name)
    }

    /// The path of its code, relative to the root of the repository.
    pub fn source(&self) -> String {
        format!("crates/lessons/src/{}.rs", self.name.replace('-', "_"))
    }
}

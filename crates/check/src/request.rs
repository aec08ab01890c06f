//! What is asked of a path.

use std::time::Duration;

use http::Uri;
use transport::Connector;

use crate::Group;

/// What is asked of a path.
#[derive(Debug)]
pub struct Request {
    /// The server, or what is before it.
    pub server: Uri,
    /// How to get there.
    pub connector: Connector,
    /// Only these groups of checks; all, when it is empty.
    pub only: Vec<Group>,
    /// How long an idle stream is to live, if that is to be known.
    pub idle: Option<Duration>,
    /// Whether `grpc.testing.TestService` is to be called.
    pub standard: bool,
}

/// What stdout gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text {
        /// Without what passes.
        quiet: bool,
    },
    /// One object a line.
    Json,
    /// A report that CI systems read.
    Junit,
}

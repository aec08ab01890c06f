//! The crate from outside.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod client;
mod gob;
mod hostile;
mod server;
mod support;

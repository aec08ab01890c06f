//! The client as its users run it: the real binary against a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

mod bad_input;
mod bench;
mod bidi_streaming;
mod black_hole;
mod client_streaming;
mod command_line;
mod interrupted;
mod killable;
mod logs;
mod output;
#[path = "../../../server/tests/it/proxy.rs"]
mod proxy;
mod readme;
mod retry;
mod server_streaming;
mod servers;
mod support;
mod sync;
mod tasks;
mod tls;
mod tour;
mod unary;
mod upload;

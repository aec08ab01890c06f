//! The server from outside: over real sockets, in this process or as the
//! binary where a process, its output or its signals matter.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

mod auth;
mod bidi_streaming;
mod binary;
mod client_streaming;
mod deadline;
mod faults;
mod freed;
mod grpc_web;
mod health;
mod interop;
mod limits;
#[cfg(unix)]
mod logs;
mod measure;
mod metrics;
mod modes;
mod probe;
mod proxy;
mod quotes;
mod reflection;
mod server_streaming;
mod shutdown;
#[cfg(unix)]
mod signals;
mod support;
mod sync;
mod tasks;
mod tasks_killed;
mod tls;
mod tutorial;
mod unary;
mod unwelcome;
mod upload;
mod workers;

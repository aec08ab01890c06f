//! The server from outside: over real sockets, in this process or as the
//! binary where a process, its output or its signals matter.

#[cfg(unix)]
mod alerts;
mod auth;
mod bidi_streaming;
mod client_streaming;
mod command_line;
mod deadline;
#[cfg(target_os = "linux")]
mod disk;
mod faults;
mod freed;
mod grpc_web;
mod health;
mod http;
mod interop;
mod kept;
mod limits;
mod measure;
mod metrics;
mod modes;
mod net_rpc;
mod page;
mod probe;
mod reflection;
mod server_streaming;
mod servers;
mod shutdown;
#[cfg(unix)]
mod signals;
#[cfg(target_os = "linux")]
mod threads;
mod tls;
mod tutorial;
mod unary;
mod unread;
mod unwelcome;
mod workers;

use test_support::Program;

/// The program, on a free port and with state that ends with it unless its
/// arguments say otherwise.
fn binary(arguments: &[&str]) -> Program {
    let program = Program::new(env!("CARGO_BIN_EXE_end-to-end-server"));
    let program = arguments.iter().fold(program, Program::arg).env("COLUMNS", "100");
    program.env("FOURMODES_LISTEN", "127.0.0.1:0").env("FOURMODES_DATA_DIR", ":memory:")
}

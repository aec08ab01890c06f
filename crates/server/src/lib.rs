//! A server for gRPC's four communication modes.
//!
//! A call passes the crate `stack` (what every call needs), `modes` (decode, ask
//! the domain, encode) and `domain` (the work itself, which knows no gRPC).

pub mod certs;
pub mod cli;
pub mod config;
mod listed;
mod modes;
mod net_rpc;
mod page;
mod program;
mod refused;
mod serve;
mod services;
mod store;

pub use program::main;
pub use serve::{Ready, serve};

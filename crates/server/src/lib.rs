//! A server for gRPC's four communication modes.
//!
//! A call passes `layers` (what every call needs), `modes` (decode, ask the
//! domain, encode) and `domain` (the work itself, which knows no gRPC).

mod activity;
pub mod certs;
pub mod cli;
pub mod config;
mod connections;
mod domain;
mod error;
mod files;
mod layers;
mod machine;
mod metrics;
mod modes;
mod program;
mod refused;
mod serve;
mod services;
pub mod shutdown;
mod store;
mod tls;
mod tokens;
mod workers;

/// What `fuzz/` calls.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::domain::uploads::fuzzed as uploads;
}
#[cfg(feature = "simulation")]
pub use machine::simulated;
pub use program::main;
pub use serve::{Ready, serve};

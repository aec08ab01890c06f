//! Does the path to a server carry all four modes?
//!
//! Each group of checks is a file, and each check is a short function that makes calls
//! (`wire`) over the path (`path`). Most calls go to a service that follows a script
//! and reports what it saw (`script`). If the server does not have that service, the
//! checks use `grpc.testing.TestService` as far as it allows (`standard`). The result
//! of a check is an `outcome`, which a renderer shows.
//!
//! No check repeats a call or waits without a bound. For each check a test has a fault
//! that makes it fail (`tests/it/check/faults.rs` of `end-to-end`).

mod balance;
mod bare;
mod check;
mod connect;
mod control;
mod evidence;
mod extras;
mod flow;
mod life;
mod metadata;
mod modes;
mod outcome;
mod path;
mod remedies;
mod render;
mod report;
mod request;
mod rules;
mod run;
mod script;
mod standard;
mod status;
mod wire;
mod wire_error;

pub use self::{
    check::Group,
    request::{Output, Request},
    run::{Error, Run},
};

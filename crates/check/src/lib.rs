//! Does the path to a server carry all four modes?
//!
//! Each group of checks is a file, each check a short function that makes calls
//! (`wire`) over the path (`path`), most of them to a service that does what a
//! script says and tells what it saw (`script`). A server without that service is
//! asked the same by `grpc.testing.TestService`, as far as that can tell
//! (`standard`). What came of a check is an `outcome`, which a renderer shows.
//!
//! No check makes a call again or waits without a bound, and for each check a test
//! has a fault that makes it fail (`tests/it/check/faults.rs` of `end-to-end`).

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

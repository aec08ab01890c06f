//! Compares the server with others. The contestants are interleaved in one run, and the
//! unit is operations per second of the server's CPU time. Durable uploads against a
//! copy, memory and waiting are compared as well. Machines differ and are shared, so
//! only the ratios within a run are reported.

mod beside;
mod call;
mod cores;
mod costs;
mod durable;
mod growth;
mod latency;
mod machine;
mod measure;
mod memory;
mod progress;
mod report;
mod run;
mod serve;
mod settings;
mod statistics;
mod subject;
mod target;
mod wire;
mod work;

pub use crate::{
    report::{Report, Written},
    run::run,
    serve::serve,
    settings::Settings,
    subject::{Special, Subject},
    work::{Contestant, Work},
};

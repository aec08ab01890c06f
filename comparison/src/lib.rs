//! The server beside others, interleaved in one run, in operations for each
//! second of CPU time that a server takes, and what is no rate: how durable
//! uploads compare with a copy, memory, waiting. Machines differ and are shared:
//! ratios within a run are what is told.

mod beside;
mod call;
mod cores;
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

//! The server beside others, interleaved in one run, in operations for each
//! second of CPU time that a server takes. Machines differ and are shared:
//! ratios within a run are all that is told.

mod call;
mod measure;
mod report;
mod serve;
mod target;
mod work;

pub use crate::{
    measure::run,
    report::Report,
    serve::serve,
    work::{Contestant, Work},
};

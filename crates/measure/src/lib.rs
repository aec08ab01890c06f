//! What a message costs in each pattern that gRPC has, on this path, at this size.
//!
//! A `job` says what is called and sent: of our own service, or of anybody's. A `load` says
//! when which message is sent. `unary`, `stream` and `receive` send and receive them over
//! `line`s on `threads`, `times` keeps how long that took, `server` asks for the
//! server's share of the work. What came of it is a `report`, of which renderers show
//! everything, and `recommend` what to do.
//!
//! No figure counts a message that is not known to have arrived. With a rate, a
//! message's time runs from when it was due, and not from when it was sent.

mod drive;
mod job;
mod line;
mod load;
mod pattern;
mod receive;
mod recommend;
mod render;
mod renderer;
mod report;
mod request;
mod run;
mod server;
mod stream;
mod threads;
mod times;
mod unary;
mod work;

pub use self::{
    job::Call,
    load::Amount,
    pattern::Pattern,
    request::{Output, Request},
    run::Run,
    work::Error,
};

//! The work itself: plain Rust, no gRPC. Each file is one subject.

pub(crate) mod arithmetic;
pub(crate) mod collector;
pub(crate) mod documents;
pub(crate) mod feed;
pub(crate) mod logs;
pub(crate) mod market;
pub(crate) mod names;
pub(crate) mod primes;
pub(crate) mod quotes;
pub(crate) mod readings;
pub(crate) mod resources;
pub(crate) mod rooms;
pub(crate) mod store;
pub(crate) mod system;
pub(crate) mod tasks;
pub(crate) mod uploads;

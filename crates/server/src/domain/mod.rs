//! The work itself: plain Rust, no gRPC. Each file is one subject.

pub(crate) mod arithmetic;
pub(crate) mod documents;
pub(crate) mod feed;
pub(crate) mod market;
pub(crate) mod names;
pub(crate) mod quotes;
pub(crate) mod readings;
pub(crate) mod rooms;
pub(crate) mod store;
pub(crate) mod system;

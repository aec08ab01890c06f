//! Many requests, many responses, neither waits.

pub(crate) mod chat;
pub(crate) mod sync;

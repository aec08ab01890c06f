//! One request, many responses.

pub(crate) mod download;
pub(crate) mod log;
pub(crate) mod quotes;
pub(crate) mod system;
pub(crate) mod task;

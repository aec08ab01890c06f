//! Many requests, one response.

pub(crate) mod readings;
pub(crate) mod upload;

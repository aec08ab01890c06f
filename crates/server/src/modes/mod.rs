//! One folder for each mode: decode the request, ask the domain, encode the answer.

pub(crate) mod bidi_streaming;
pub(crate) mod byte_stream;
pub(crate) mod client_streaming;
pub(crate) mod server_streaming;
mod task;
pub(crate) mod unary;

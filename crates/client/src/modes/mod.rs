//! One file for each mode: how a client makes the calls, and what it makes of
//! the answers. What passes on the wire shows itself, by way of the channel.

pub(crate) mod bidi_streaming;
pub(crate) mod client_streaming;
pub(crate) mod server_streaming;
mod task;
pub(crate) mod tour;
pub(crate) mod unary;

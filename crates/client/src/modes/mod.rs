//! One file for each mode: how a client makes the calls, and what it makes of
//! the answers. What passes on the wire shows itself, by way of the channel.

pub(crate) mod bidi_streaming;
pub(crate) mod client_streaming;
pub(crate) mod server_streaming;
pub(crate) mod tour;
pub(crate) mod unary;

/// `1 quote`, `1,000 quotes`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {one}{plural}", indicatif::HumanCount(count))
}

//! What gRPC puts on the wire: modes, status codes, the framing of messages, the
//! `grpc-timeout` header, and the HTTP/2 settings that both sides need.
//!
//! This crate is the leaf that the server's stack and the client's timeline share.
//! It knows no service.

mod code;
pub mod frames;
pub mod limits;
mod mode;
mod reason;
pub mod timeout;

pub use code::code_name;
pub use mode::Mode;
pub use reason::{ERROR_DOMAIN, Reason};

/// Whether a character cannot be seen where it stands: a control character, one
/// that turns the direction of writing, or one without a width that is part of no
/// writing system. A name or a text that has one can look like another.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{2069}' | '\u{feff}')
}

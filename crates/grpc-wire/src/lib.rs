//! What gRPC puts on the wire: modes, status codes, the framing of messages, the
//! `grpc-timeout` header, the HTTP/2 settings that both sides need, and a body
//! that is looked at.
//!
//! This crate is the leaf that the server's stack and the client's timeline share.
//! It knows no service.

pub mod body;
mod code;
mod content_type;
pub mod empty_data;
pub mod frames;
pub mod heads;
mod http2_error;
pub mod limits;
mod method;
mod mode;
mod raw;
mod reason;
mod secret;
pub mod timeout;

pub use code::code_name;
pub use content_type::is_grpc;
pub use http2_error::http2_error;
pub use method::{method_in, mode_of};
pub use mode::Mode;
pub use raw::Raw;
pub use reason::{ERROR_DOMAIN, Reason};
pub use secret::is_secret;

//! gob, the format of Go's `encoding/gob`, for types that derive `Serialize` and `Deserialize`.
//!
//! | Rust | gob |
//! |---|---|
//! | `bool`, `i8` … `i64`, `u8` … `u64`, `f32`, `f64`, `String` | bool, int, uint, float, string |
//! | `Vec<u8>` | []byte |
//! | `Vec<T>`, `[T; N]`, `HashMap<K, V>`, `BTreeMap<K, V>` | slice, array, map |
//! | a struct with fields | struct; fields are matched by name, so `#[serde(rename_all = "PascalCase")]` |
//! | `()` | `struct{}` |
//! | `Option<T>` as a field | a pointer: absent is `None` |
//!
//! A field that the message lacks is zero, and one that the type lacks is skipped. There are no
//! enums, no recursive types, no `serde(flatten)` and no `serde(alias)`. Complex numbers, interfaces
//! and types with a Go marshaller of their own are skipped where the Rust type has no field for them.

mod decode;
mod encode;
mod table;
mod trace;
mod wire;
mod zero;

pub use decode::{Decoder, Value};
pub use encode::{Encoder, encode_value};
pub use trace::Type;
pub(crate) use zero::Zero;

/// What the other end may send.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a message. A request and a response are two messages each. Default: 1 MiB.
    pub message: usize,
    /// Bytes of all type descriptors on a connection. Default: 64 KiB.
    pub descriptors: usize,
    /// Types on a connection. Default: 1,000.
    pub types: usize,
    /// Fields of a struct. Default: 1,000.
    pub fields: usize,
    /// Bytes of the name of a type or a field. Default: 256.
    pub name: usize,
    /// Values inside values. Default: 64.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 1 << 20, descriptors: 64 << 10, types: 1_000, fields: 1_000, name: 256, depth: 64 }
    }
}

/// Why bytes are no value, or a value has no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The message ends inside a value.
    #[error("gob: the message ends inside a value")]
    Truncated,
    /// The bytes are not gob.
    #[error("gob: bad data: {0}")]
    Corrupt(&'static str),
    /// No descriptor has defined this type.
    #[error("gob: bad data: undefined type {0}")]
    UnknownType(i64),
    /// A limit, in the unit that [`Limits`] gives.
    #[error("gob: {what} over the limit of {limit}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The type on the wire is not the type that is wanted, in Go's words.
    #[error("gob: {0}")]
    Mismatch(String),
    /// gob has no such type, or this implementation has not.
    #[error("gob: {0} cannot be sent or received")]
    Unsupported(&'static str),
    /// The type refuses the value.
    #[error("gob: {0}")]
    Refused(String),
}

impl serde::de::Error for Error {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Self::Refused(text.to_string())
    }
}

impl serde::ser::Error for Error {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Self::Refused(text.to_string())
    }
}

/// Where the message at the start of `bytes` begins and ends, behind its length. `None`: more bytes
/// are needed.
///
/// # Errors
/// The length is no number, or over `limit`.
pub fn frame(bytes: &[u8], limit: usize) -> Result<Option<std::ops::Range<usize>>, Error> {
    let Some((length, rest)) = wire::uint(bytes)? else { return Ok(None) };
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= limit)
        .ok_or(Error::Limit { what: "bytes of a message", limit })?;
    let start = bytes.len() - rest.len();
    Ok((rest.len() >= length).then_some(start..start + length))
}

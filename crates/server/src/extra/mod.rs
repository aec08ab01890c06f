//! Services that belong to no mode of our own.

pub(crate) mod byte_stream;
pub(crate) mod interop;
pub(crate) mod not_served;
pub(crate) mod probe;
pub(crate) mod tutorial;

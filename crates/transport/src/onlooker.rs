//! Observes the bytes of a connection.

use std::{fmt, sync::Arc};

/// Bytes that have passed on a connection, above TLS.
#[derive(Debug, Clone, Copy)]
pub enum Passed<'a> {
    /// Bytes to the peer.
    Sent(&'a [u8]),
    /// Bytes from the peer.
    Received(&'a [u8]),
}

/// Observes one connection, and is dropped with it. It runs in the task that reads and
/// writes, so it must not block.
pub struct Onlooker(Box<dyn FnMut(Passed<'_>) + Send>);

/// Makes an onlooker for each connection, once the socket is connected and the TLS
/// handshake, if any, is over.
#[derive(Clone)]
pub struct Onlookers(Arc<dyn Fn() -> Onlooker + Send + Sync>);

impl Onlooker {
    /// Calls `see` with each piece, in order.
    pub fn new(see: impl FnMut(Passed<'_>) + Send + 'static) -> Self {
        Self(Box::new(see))
    }

    pub(crate) fn see(&mut self, passed: Passed<'_>) {
        (self.0)(passed);
    }
}

impl Onlookers {
    /// Calls `make` for each connection.
    pub fn new(make: impl Fn() -> Onlooker + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    pub(crate) fn one(&self) -> Onlooker {
        (self.0)()
    }
}

impl fmt::Debug for Onlooker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Onlooker")
    }
}

impl fmt::Debug for Onlookers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Onlookers")
    }
}

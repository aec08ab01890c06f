//! Somebody who reads along on a connection.

use std::{fmt, sync::Arc};

/// What has passed on a connection, above TLS.
#[derive(Debug, Clone, Copy)]
pub enum Passed<'a> {
    /// To the peer.
    Sent(&'a [u8]),
    /// From the peer.
    Received(&'a [u8]),
}

/// Sees what passes on one connection, and is dropped with it. It is called by whoever
/// reads and writes, so it must not block.
pub struct Onlooker(Box<dyn FnMut(Passed<'_>) + Send>);

/// Makes an onlooker for each connection, when its socket is there and, with TLS, its
/// handshake is over.
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

//! The work itself: plain Rust, no gRPC. Each file is one subject.

pub(crate) mod arithmetic;
pub(crate) mod collector;
pub(crate) mod documents;
pub(crate) mod feed;
pub(crate) mod logs;
pub(crate) mod market;
pub(crate) mod names;
pub(crate) mod primes;
pub(crate) mod quotes;
pub(crate) mod readings;
pub(crate) mod resources;
pub(crate) mod rooms;
pub(crate) mod store;
pub(crate) mod system;
pub(crate) mod tasks;
pub(crate) mod uploads;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// No code here panics while it holds a lock; if that were ever wrong, the data
/// would still be whole, since each change is made before anything can fail.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

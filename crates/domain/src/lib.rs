//! The work itself: plain Rust that knows no gRPC. Each file is one subject.
//!
//! What keeps the state is behind [`store::Store`]; files, threads that wait for
//! them and the time of day are behind [`platform`].

pub mod arithmetic;
pub mod collector;
pub mod documents;
pub mod feed;
pub mod logs;
pub mod market;
mod names;
pub mod open_files;
pub mod peers;
pub mod platform;
mod primes;
pub mod quotes;
pub mod readings;
pub mod resources;
pub mod rooms;
pub mod store;
pub mod system;
pub mod tasks;
pub mod uploads;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// No code here panics while it holds a lock; if that were ever wrong, the data
/// would still be whole, since each change is made before anything can fail.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

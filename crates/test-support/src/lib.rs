//! The one place that starts servers, clients, proxies and databases for tests.
//!
//! A server is in this process (`Server`, or `BlockingServer` for a test without
//! a runtime) or a program (`Program::serve`). Cargo gives the path of a program
//! to the tests of the package that owns it: `Program::new(env!("CARGO_BIN_EXE_…"))`.
//! Every port is a free one, and what was started ends when its handle is dropped.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]
#![allow(clippy::new_without_default, reason = "`new` takes a port or writes files")]

mod address;
mod calls;
mod certs;
mod fault;
mod killable;
mod path;
mod patience;
#[cfg(unix)]
mod postgres;
mod program;
mod proxy;
mod server;
mod slow;
mod viewer;
pub mod wire;

pub use address::{Reserved, deaf_address, listener};
pub use calls::{
    Member, RawCall, assert_answers, bad_fields, bidi_streaming, channel, client_streaming, failure_of,
    first_batch, missing_resource, multiplication_that_waits, open_calls, quote, raw_member, reason,
    refuses_connections, server_streaming, silent_peer, status_of, unary, unread_quotes,
};
pub use certs::Certs;
pub use fault::Fault;
pub use killable::Killable;
pub use path::Path;
pub use patience::{LONG, LONG_GRACE, eventually, run, until, within};
#[cfg(unix)]
pub use postgres::Postgres;
pub use program::{Ended, Lines, Program, Running, ServerProgram};
pub use proxy::{Proxy, Trouble, Way};
#[cfg(unix)]
pub use rustix::process::Signal;
pub use server::{BlockingServer, Server};
pub use slow::{Fate, Link, Slow};
pub use viewer::Viewer;

/// Takes all the room that a disk has left, until the file is removed.
pub fn fill(disk: &std::path::Path) -> std::path::PathBuf {
    let filler = disk.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let full = loop {
        if let Err(error) = std::io::Write::write_all(&mut file, &[1; 1 << 16]) {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    filler
}

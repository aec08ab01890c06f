//! A page that shows every call while it runs.
//!
//! A server or a proxy hands over the events of its calls, as JSON objects with the
//! names that `docs/output.md` documents. The page gets them as server-sent events,
//! a batch ten times a second.
//!
//! What is kept is bounded: the latest 1,000 calls, 1,000 events of each, 64 MiB in
//! all. Nothing is kept, and no event is even made, until somebody looks.
//!
//! By default only this machine can look. A page of another site cannot: the names in
//! `Host` are a list, and a foreign `Origin` is refused. An address that others can
//! reach asks for a token.

mod access;
mod serve;
mod store;

pub use access::Access;
pub use serve::{Asked, serve};
pub use store::Page;

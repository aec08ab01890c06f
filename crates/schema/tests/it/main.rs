//! The library as its users see it.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test that fails says so")]

mod descriptors;
mod json;
mod reflection;
mod support;
mod text;

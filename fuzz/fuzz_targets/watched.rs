//! What passes on a connection that `watch` looks at, in both directions.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| watch::watched(bytes));

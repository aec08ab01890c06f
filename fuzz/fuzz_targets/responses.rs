//! What a server sends, on its way to a terminal.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| timeline::timeline(&shared_proto::POOL, bytes));

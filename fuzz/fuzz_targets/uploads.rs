//! An upload through writes, cuts, crashes and attempts that take over.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| domain::uploads::fuzzed(bytes));

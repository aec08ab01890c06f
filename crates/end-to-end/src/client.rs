//! The client's program for the tests, as cargo gives them the path of a program of
//! their own package alone.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    client::main()
}

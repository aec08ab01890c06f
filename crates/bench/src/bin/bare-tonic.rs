//! A bare tonic server in a program of its own, which has the allocator that
//! programs have by default.

use std::{io::Write as _, process::ExitCode};

fn main() -> ExitCode {
    match bench::serve(bench::Contestant::BareTonic) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

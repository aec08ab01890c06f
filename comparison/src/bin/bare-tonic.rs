//! A bare tonic server in a program of its own, which has the allocator that
//! programs have by default.

use std::{io::Write as _, process::ExitCode};

fn main() -> ExitCode {
    match comparison::serve(comparison::Contestant::BareTonic, ([127, 0, 0, 1], 0).into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! A client for gRPC's four communication modes.
//!
//! What the user says (`cli`, `options`) becomes what the program may rely on
//! (`config`). `scenarios` make the calls, each in its file; `session` has the
//! channel for them and replaces it when it is lost; everything that happens on
//! the channel goes by way of the `timeline` to its renderers. `tour` shows the
//! scenarios one after the other.

mod bar;
mod cli;
mod commands;
mod config;
mod failure;
mod lines;
mod options;
mod prompt;
mod run;
mod scenario;
mod scenarios;
mod session;
mod show;
mod stop;
mod tour;
mod values;

/// What `fuzz/` calls.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::scenarios::client_streaming::readings::input::readings;
}
pub use cli::Cli;
pub use run::run;

/// All that the `fourmodes` program does, by the arguments of this process.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let asked = commands::complete::asked();
    let cli = asked.is_none().then(|| Cli::read(std::env::args_os()).unwrap_or_else(|usage| usage.exit()));
    shared_process::log_to_stderr(tracing_subscriber::filter::LevelFilter::WARN);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::threads(&error).report("to start"),
    };
    let code = match cli {
        Some(cli) => runtime.block_on(run(cli)),
        None => runtime.block_on(commands::complete::answer(asked.unwrap_or_default())),
    };
    // What still blocks a thread, a checksum or a name that nobody resolves, is not
    // waited for: all that has to be complete was awaited.
    runtime.shutdown_background();
    code
}

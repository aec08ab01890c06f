//! A client for gRPC's four communication modes.
//!
//! What the user says (`cli`) becomes what the program may rely on (`config`);
//! `connect` opens a channel, `session` has it at hand and replaces it when it is
//! lost, `modes` make the calls, and everything that happens on them goes by way
//! of the `timeline` to its renderers.

mod bar;
mod cli;
mod commands;
mod config;
mod failure;
mod lines;
mod modes;
mod part;
mod readings;
mod run;
mod session;
mod show;
mod stop;
mod working_copy;

/// What `fuzz/` calls.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::readings::readings;
}
pub use cli::Cli;
pub use run::run;

/// All that the `fourmodes` program does, by the arguments of this process.
#[must_use]
#[tokio::main]
pub async fn main() -> std::process::ExitCode {
    let cli = <Cli as clap::Parser>::parse();
    shared_process::log_to_stderr(tracing_subscriber::filter::LevelFilter::WARN);
    run(cli).await
}

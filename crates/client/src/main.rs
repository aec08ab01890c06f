//! The `client` binary: parse, tracing, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use client::Cli;
use tracing_subscriber::filter::LevelFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    shared_process::log_to_stderr(LevelFilter::WARN);
    client::run(cli).await
}

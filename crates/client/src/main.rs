//! The `client` binary: parse, tracing, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use client::{Cli, Config};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match Config::try_from(cli) {
        Ok(config) => client::run(config).await,
        Err(usage) => usage.exit(),
    }
}

//! Where the log goes.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

/// Logs to stderr, at `info` unless `RUST_LOG` says otherwise, in colour on a
/// terminal unless `NO_COLOR` is set.
pub fn to_stderr() {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .from_env_lossy();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !no_color)
        .with_target(false)
        .init();
}

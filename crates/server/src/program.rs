//! The program: parse, tracing, run, exit code.

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;
use clap::CommandFactory as _;
use tokio::{net::TcpListener, runtime::Builder};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    certs::Request,
    cli::{Cli, Command, HINT, Unusable},
    config::Config,
    serve::Ready,
};

/// All that the `fourmodes-server` program does, by the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::of_this_process();
    shared_process::log_to_stderr(LevelFilter::INFO);
    // What serves connections has threads of its own, if there are several.
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("the runtime cannot be started");
    match runtime.and_then(|runtime| runtime.block_on(run(cli))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by way of the log, which may be off.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            if error.is::<Unusable>() || error.is::<stack::Unusable>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let modes = match &cli.command {
        Command::Serve(modes) => *modes,
        Command::Certs { dir, names, force } => {
            let made = Request::for_a_year(names.clone()).make(dir, *force)?;
            return std::io::stdout().write_all(made.as_bytes()).context("the output cannot be written");
        }
        Command::Describe(describe) => {
            return describe.write(Cli::command(), HINT).context("the output cannot be written");
        }
    };
    let config = Config::new(cli, modes)?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; choose another address with --listen, port 0 for any free one",
            config.listen
        )
    })?;
    if !config.listen.ip().is_loopback() && config.stack.tokens.is_none() && config.stack.tls.is_none() {
        tracing::warn!(
            "everyone who can reach {} may call, and read what passes: see --tokens-file, --tls-cert and --client-ca",
            config.listen
        );
    }
    // First the handlers: whoever has read the address may send a signal.
    let shutdown = stack::shutdown_signal().context("the handlers for signals cannot be installed")?;
    // Whoever started this process reads the address from here: nothing else
    // goes to stdout, and a reader that has gone away is no reason to stop.
    let address = listener.local_addr().context("the listener has no address")?;
    let scheme = if config.stack.tls.is_some() { "https" } else { "http" };
    let ready = Ready::open(config).await?;
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "listening on {scheme}://{address}").and_then(|()| stdout.flush());
    ready.serve(listener, shutdown).await
}

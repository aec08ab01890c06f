//! The program: parse, tracing, run, exit code.

use std::{
    hint::black_box,
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::CommandFactory as _;
use stack::Stack;
use tokio::{net::TcpStream, runtime::Builder, time::sleep};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    certs::Request,
    cli::{Cli, Command, HINT, Unusable},
    config::Config,
    net_rpc,
    serve::{Ready, listen},
};

/// All that the `fourmodes-server` program does, by the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::of_this_process();
    shared_process::log_to_stderr(LevelFilter::INFO);
    // What serves connections has threads of its own, if there are several.
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime");
    match runtime.and_then(|runtime| runtime.block_on(run(cli))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by way of the log, which may be off.
            let _ = writeln!(io::stderr(), "error: {error:#}");
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
        Command::NetRpc => return serve_net_rpc(cli).await,
        Command::Certs { dir, names, force } => {
            let made = Request::for_a_year(names.clone()).make(dir, *force)?;
            return io::stdout().write_all(made.as_bytes()).context("the output cannot be written");
        }
        Command::Describe(describe) => {
            return describe
                .write(Cli::command(), HINT, |_, script| script)
                .context("the output cannot be written");
        }
    };
    let config = Config::new(cli, modes)?;
    let listener = listen(config.listen, "--listen").await?;
    if !config.listen.ip().is_loopback() && config.stack.tokens.is_none() && config.stack.tls.is_none() {
        tracing::warn!(
            "everyone who can reach {} may call and read the traffic: see --tokens-file, --tls-cert and --client-ca",
            config.listen
        );
    }
    // First the handlers: whoever has read the address may send a signal.
    let shutdown = stack::shutdown_signal().context("cannot install signal handlers")?;
    let address = listener.local_addr().context("the listener has no address")?;
    let scheme = if config.stack.tls.is_some() { "https" } else { "http" };
    let ready = Ready::open(config).await?;
    announce(scheme, address);
    tokio::spawn(give_back_memory());
    ready.serve(listener, shutdown).await
}

/// Lets the allocator give free memory back to the system. mimalloc does so when a large block is
/// freed, and an idle server frees none.
async fn give_back_memory() {
    loop {
        sleep(Duration::from_secs(2)).await;
        drop(black_box(Vec::<u8>::with_capacity(8 << 20)));
    }
}

/// Serves net/rpc and no gRPC.
async fn serve_net_rpc(cli: Cli) -> anyhow::Result<()> {
    let settings = cli.stack.settings()?;
    if settings.tls.is_some() || settings.tokens.is_some() {
        return Err(Unusable::NetRpcInTheClear.into());
    }
    let listener = listen(cli.listen.unwrap_or(net_rpc::ADDRESS), "--listen").await?;
    let shutdown = stack::shutdown_signal().context("cannot install signal handlers")?;
    let address = listener.local_addr().context("the listener has no address")?;
    let mut stack = Stack::open(settings.clone(), &[]).await?;
    net_rpc::add(&mut stack, listener, &settings)?;
    announce("tcp", address);
    stack.serve_connections(tokio_stream::pending::<io::Result<TcpStream>>(), shutdown).await
}

/// Whoever started this process reads the address from here: nothing else goes to
/// stdout, and a reader that has gone away is no reason to stop.
fn announce(scheme: &str, address: SocketAddr) {
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "listening on {scheme}://{address}").and_then(|()| stdout.flush());
}

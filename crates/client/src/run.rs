//! From what the user said to an exit code.

use std::process::ExitCode;

use clap::{CommandFactory as _, error::ErrorKind};
use grpc_wire::Mode;
use shared_process::Describe;

use crate::{
    cli::{Cli, Command, HINT},
    commands::complete::asking,
    config::{Config, UNARY_DEADLINE},
    failure::Failure,
    options::Options,
    scenario::{ALL_MODES, DEMONSTRATION, Run},
    scenarios::Scenarios,
    tour::{Demonstration, Tour},
};

/// Does what the user said. Results go to stdout, failures to stderr.
pub async fn run(cli: Cli) -> ExitCode {
    let Cli { options, command } = cli;
    let ended = match command {
        Command::Unary { scenario } => mode(options, scenario).await,
        Command::ServerStreaming { scenario } => mode(options, scenario).await,
        Command::ClientStreaming { scenario } => mode(options, scenario).await,
        Command::BidiStreaming { scenario } => mode(options, scenario).await,
        Command::Tour => tour(options).await,
        Command::Call(call) => call.run(options).await,
        Command::Check(check) => check.run(options).await,
        Command::Measure(measure) => measure.run(options).await,
        Command::NetRpc(net_rpc) => net_rpc.run(options).await,
        Command::Watch(watch) => watch.run(options).await,
        Command::Show(show) => show.run(options).await,
        Command::Replay(replay) => replay.run(options).await,
        Command::Describe(describe) => Ok(described(&describe)),
    };
    ended.unwrap_or_else(|wrong| Cli::command().error(ErrorKind::ValueValidation, wrong).exit())
}

async fn mode<S: Scenarios>(options: Options, scenario: Option<S>) -> Result<ExitCode, String> {
    let mut config = Config::of_calls(options)?;
    if S::MODE == Mode::Unary && scenario.is_some() {
        config.deadline.get_or_insert(UNARY_DEADLINE);
    }
    let run = Run { config: &config, mode: S::MODE.name() };
    Ok(match scenario {
        Some(scenario) => scenario.run(&run).await,
        None => run.scenario(DEMONSTRATION, &Demonstration { mode: S::MODE }).await,
    })
}

async fn tour(options: Options) -> Result<ExitCode, String> {
    let config = Config::of_calls(options)?;
    Ok(Run { config: &config, mode: ALL_MODES }.scenario("tour", &Tour {}).await)
}

fn described(describe: &Describe) -> ExitCode {
    let command = match describe {
        Describe::Completions { .. } => "completions",
        Describe::Man { .. } => "man",
    };
    match describe.write(Cli::command(), HINT, asking) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Failure::unwritten(&error).report(command),
    }
}

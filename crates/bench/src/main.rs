//! The `bench` binary: parse, run or serve, exit code.

use std::{io::Write as _, process::ExitCode, time::Duration};

use bench::{Contestant, Report, Work};
use clap::{Parser, Subcommand, ValueEnum as _};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compare the server with others, side by side
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the server beside the others; it is taken from beside this program
    Run {
        /// What to measure; everything when nothing is named
        #[arg(long, value_enum)]
        only: Vec<Work>,
        /// Beside whom; everyone when nobody is named
        #[arg(long, value_enum)]
        against: Vec<Contestant>,
        /// How often; each round measures everyone once
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// How long each measurement takes, after a quarter of it to get going
        #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
        each: Duration,
        /// Write a JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Serve one of the others until interrupted, on a free port of 127.0.0.1
    Serve { contestant: Contestant },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run { only, against, rounds, each, json } => run(&only, &against, rounds, each, json),
        Command::Serve { contestant } => bench::serve(contestant),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(
    only: &[Work],
    against: &[Contestant],
    rounds: usize,
    each: Duration,
    json: bool,
) -> anyhow::Result<()> {
    let works = if only.is_empty() { Work::value_variants() } else { only };
    let report = Report::new(&bench::run(works, against, rounds.max(1), each)?);
    let mut stdout = std::io::stdout();
    if json {
        serde_json::to_writer_pretty(&mut stdout, &report)?;
        writeln!(stdout)?;
    } else {
        write!(stdout, "{report}")?;
    }
    Ok(())
}

//! The `comparison` program: parse, run, report or serve, exit code.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum as _};
use comparison::{Contestant, Report, Settings, Subject, Written};

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
    /// Measure the server beside the others
    Run(Run),
    /// Make the page and the pictures of what a run has written
    Report {
        /// What `run --output` has written
        file: PathBuf,
        /// Where to put `performance.md` and, below `performance`, the pictures and the figures;
        /// `performance/notes.md` there has what is to be said about single goals
        directory: PathBuf,
    },
    /// Serve one of the others until interrupted; the first line on stdout is the address
    ///
    /// Its allocator is this program's, which is the server's as well. What is
    /// measured as bare-tonic is a program of that name, with the default one.
    Serve {
        contestant: Contestant,
        /// IP address and port to listen on; port 0 takes any free port
        #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
        listen: SocketAddr,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// The server; a name without a directory is looked up on the PATH
    #[arg(long, default_value = "fourmodes-server", value_name = "PROGRAM")]
    server: PathBuf,
    /// The client that uploads to it
    #[arg(long, default_value = "fourmodes", value_name = "PROGRAM")]
    client: PathBuf,
    /// What to measure; everything when nothing is named
    #[arg(long, value_enum)]
    only: Vec<Subject>,
    /// Beside whom, for works that are counted; everyone when nobody is named
    #[arg(long, value_enum)]
    against: Vec<Contestant>,
    /// Let servers and clients share all cores, as their users do
    #[arg(long)]
    unpinned: bool,
    /// How often; each round measures everyone once
    #[arg(long, default_value_t = 7, value_name = "N")]
    rounds: usize,
    /// How long each measurement takes, after a quarter of it to get going
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    each: Duration,
    /// The size of the file that is uploaded to the disk
    #[arg(long, default_value = "1GiB", value_parser = shared_process::bytes, value_name = "SIZE")]
    upload: u64,
    /// How many idle streams are opened to see what they take
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    idle_streams: usize,
    /// Write a JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Write the JSON object into a file as well
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => run(options),
        Command::Report { file, directory } => report(&file, &directory),
        Command::Serve { contestant, listen } => comparison::serve(contestant, listen),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Run) -> anyhow::Result<()> {
    let Run { server, client, only, against, unpinned, rounds, each, upload, idle_streams, json, output } =
        options;
    let subjects = if only.is_empty() { Subject::value_variants().to_vec() } else { only };
    let rounds = rounds.max(1);
    let report = comparison::run(&Settings {
        server,
        client,
        subjects,
        against,
        unpinned,
        rounds,
        each,
        upload,
        idle_streams,
    })?;
    let figures = serde_json::to_string_pretty(&report)?;
    let mut stdout = std::io::stdout();
    if json {
        writeln!(stdout, "{figures}")?;
    } else {
        write!(stdout, "{report}")?;
    }
    if let Some(file) = output {
        fs::write(&file, figures + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn report(file: &Path, directory: &Path) -> anyhow::Result<()> {
    let Written { files, unexplained } = Report::read(file)?.write(directory)?;
    let mut stdout = std::io::stdout();
    for file in files {
        writeln!(stdout, "{}", file.display())?;
    }
    let notes = directory.join("performance/notes.md");
    for goal in unexplained {
        writeln!(std::io::stderr(), "{goal} is not reached: say in {} why", notes.display())?;
    }
    Ok(())
}

//! The `lessons` binary: parse, run, exit code.

use std::{io, io::Write as _, process::ExitCode};

use clap::{
    Parser,
    builder::{PossibleValue, PossibleValuesParser},
};
use lessons::{LESSONS, Lesson};

/// Run the traps of a first gRPC service: first the broken code, then the fixed code
#[derive(Debug, Parser)]
struct Cli {
    /// The lesson to run [default: list all lessons]
    #[arg(value_parser = PossibleValuesParser::new(names()))]
    lesson: Option<String>,
    /// Run all lessons and write docs/lessons.md to stdout
    #[arg(long, conflicts_with = "lesson")]
    markdown: bool,
}

fn names() -> impl Iterator<Item = PossibleValue> {
    LESSONS.into_iter().map(|lesson| PossibleValue::new(lesson.name).help(lesson.line))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if nobody_reads(&error) => ExitCode::from(141),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Such as `| head`, which has what it wanted.
fn nobody_reads(error: &anyhow::Error) -> bool {
    let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|error| error.downcast_ref().is_some_and(broken))
}

async fn run(cli: &Cli) -> anyhow::Result<()> {
    let mut stdout = io::stdout();
    match cli.lesson.as_deref().and_then(Lesson::named) {
        Some(lesson) => lessons::teach(lesson).await?,
        None if cli.markdown => write!(stdout, "{}", lessons::markdown().await?)?,
        None => lessons::index(&mut stdout)?,
    }
    Ok(())
}

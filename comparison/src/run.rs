//! A run: everything that was asked for, one after the other.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use tokio::runtime;

use crate::{
    beside, cores, durable, growth,
    machine::{Machine, Versions},
    measure, memory,
    progress::Progress,
    report::{Rate, Report},
    subject::{Special, Subject},
    work::{Contestant, Work},
};

/// A server has so many streams for a connection.
pub(crate) const STREAMS_EACH: usize = 100;

/// How much is done.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our server.
    pub server: PathBuf,
    /// Our client.
    pub client: PathBuf,
    /// What to measure.
    pub subjects: Vec<Subject>,
    /// Beside whom; everyone when it is empty. Of the works: the others have
    /// theirs.
    pub against: Vec<Contestant>,
    /// How often; at least once.
    pub rounds: usize,
    /// How long a measurement takes.
    pub each: Duration,
    /// The size of the file that is uploaded to the disk, in bytes.
    pub upload: u64,
    /// How many idle streams.
    pub idle_streams: usize,
}

/// Measures.
///
/// # Errors
///
/// When one of them cannot be started or does not do its work.
pub fn run(settings: &Settings) -> anyhow::Result<Report> {
    let machine = Machine::this()?;
    let progress = Progress::new();
    let works: Vec<Work> = settings
        .subjects
        .iter()
        .filter_map(|subject| match subject {
            Subject::Rate(work) => Some(*work),
            Subject::Special(_) => None,
        })
        .collect();
    let asked_for = |special| settings.subjects.contains(&Subject::Special(special));
    cores::of_clients();
    let mut report = Report {
        machine,
        versions: Versions::these(),
        command: command(),
        rounds: settings.rounds,
        each_seconds: settings.each.as_secs_f64(),
        goals: Vec::new(),
        rates: Rate::of(&measure::rates(&works, &settings.against, settings, &progress)?),
        durable: None,
        memory: None,
        beside: None,
        streams: Vec::new(),
        sizes: Vec::new(),
    };
    if asked_for(Special::Memory) {
        report.memory = Some(memory::measure(settings, &progress)?);
    }
    if asked_for(Special::Beside) {
        report.beside = Some(beside::measure(settings, &progress)?);
    }
    if asked_for(Special::Streams) {
        report.streams = growth::streams(settings, &progress)?;
    }
    if asked_for(Special::Sizes) {
        report.sizes = growth::sizes(settings, &progress)?;
    }
    // The last one: the disk may be busy with it for longer.
    if asked_for(Special::Durable) {
        report.durable = Some(durable::measure(settings, &progress)?);
    }
    report.judge();
    Ok(report)
}

/// As it was called, wherever the programs are and the figures went.
fn command() -> String {
    let mut words = vec!["comparison".to_owned()];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.split_once('=').map_or(argument.as_str(), |(name, _)| name) {
            "--server" | "--client" | "--output" if argument.contains('=') => {}
            "--server" | "--client" | "--output" => {
                arguments.next();
            }
            _ => words.push(argument),
        }
    }
    words.join(" ")
}

/// On a runtime of its own, whose tasks and connections end with it.
pub(crate) fn block_on<T>(what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(what)
}

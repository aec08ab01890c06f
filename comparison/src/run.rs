//! A run: everything that was asked for, one after the other.

use crate::{
    beside, cores, costs, durable, growth,
    machine::{Machine, Versions},
    measure, memory,
    progress::Progress,
    report::{Rate, Report},
    settings::Settings,
    subject::{Special, Subject},
    wire,
    work::Work,
};

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
    if !settings.unpinned {
        cores::of_clients();
    }
    let rates = Rate::of(&measure::rates(&works, &settings.against, settings, &progress)?);
    let mut report = Report {
        machine,
        versions: Versions::of(rates.iter().map(|rate| rate.contestant)),
        command: command(),
        rounds: settings.rounds,
        each_seconds: settings.each.as_secs_f64(),
        goals: Vec::new(),
        rates,
        durable: None,
        memory: None,
        beside: None,
        streams: Vec::new(),
        sizes: Vec::new(),
        wire: Vec::new(),
        costs: Vec::new(),
    };
    if asked_for(Special::Wire) {
        report.wire = wire::measure(settings, &progress)?;
    }
    if asked_for(Special::Costs) {
        report.costs = costs::measure(settings, &progress)?;
    }
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

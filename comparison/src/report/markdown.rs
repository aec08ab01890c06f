//! `docs/performance.md`.

use std::fmt::{self, Write};

use shared_chart::Unit;

use super::{model::Report, notes::Notes, number::number, svg};
use crate::{
    statistics::Spread,
    wire::Wire,
    work::{Contestant, name},
};

/// System calls that are less than this share of all are not in the table, nor what rounds to none.
const RARE: f64 = 0.02;
const NONE: f64 = 0.0005;

pub(super) fn page(report: &Report, notes: &Notes) -> String {
    let mut page = String::new();
    // Nothing fails that writes into memory.
    let _ = write(&mut page, report, notes);
    page
}

fn write(page: &mut String, report: &Report, notes: &Notes) -> fmt::Result {
    head(page, report)?;
    goals(page, report, notes)?;
    rates(page, report)?;
    costs(page, report)?;
    wire(page, report)?;
    durable(page, report)?;
    memory(page, report)?;
    beside(page, report)?;
    growth(page, report)
}

fn head(page: &mut String, report: &Report) -> fmt::Result {
    let (machine, versions) = (&report.machine, &report.versions);
    writeln!(
        page,
        "# Performance

```sh
just compare          # measures, and writes target/comparison.json
just compare-report   # writes this page
```

`just compare-report` makes this page from [the figures of a run](performance/comparison.json) and from
[notes.md](performance/notes.md); do not edit it. Machines differ and are shared, so compare only ratios within a run.
"
    )?;
    if versions.profile == "debug" {
        writeln!(page, "**Made with debug binaries, as a test: the figures mean nothing.**\n")?;
    }
    writeln!(page, "| | |\n|---|---|")?;
    let memory = Unit::Bytes.text(machine.memory_bytes as f64);
    writeln!(page, "| machine | {}, {} cores, {memory} of memory |", machine.cpu, machine.cores)?;
    writeln!(page, "| system | {}, kernel {} |", machine.os, machine.kernel)?;
    let (tonic, h2, hyper, tokio) = (&versions.tonic, &versions.h2, &versions.hyper, &versions.tokio);
    let stacks: String =
        versions.stacks.iter().map(|(name, version)| format!(", {name} {version}")).collect();
    writeln!(
        page,
        "| versions | rustc {}; tonic {tonic}, h2 {h2}, hyper {hyper}, tokio {tokio}{stacks} |",
        versions.rustc
    )?;
    writeln!(page, "| built | {} of commit `{}` |", versions.profile, versions.commit)?;
    let (rounds, each) = (count(report.rounds, "round"), Unit::Seconds.text(report.each_seconds));
    writeln!(
        page,
        "| command | `{}` |\n| rounds | {rounds}, {each} for a measurement |\n| log | warnings alone: `RUST_LOG=warn` |\n",
        report.command
    )
}

fn goals(page: &mut String, report: &Report, notes: &Notes) -> fmt::Result {
    writeln!(
        page,
        "## Goals

Ratios compare operations per second of the server's CPU time, with all layers on, unless the row says otherwise. `measured`
is the median over the rounds. Each round measures every server once, so noise of the machine affects all of them. The
server has one core and the clients another, if the platform allows it.

| work | against | goal | measured | each round | holds | |
|---|---|---|---|---|---|---|"
    )?;
    for goal in &report.goals {
        let (bound, measured, spread) = (goal.bound.words(), goal.measured(), goal.spread());
        let (work, against, holds, key) = (&goal.work, &goal.against, goal.verdict(), &goal.key);
        writeln!(page, "| {work} | {against} | {bound} | {measured} | {spread} | {holds} | `{key}` |")?;
    }
    writeln!(page)?;
    picture(page, "goals", "The measured ratios beside their goals", report)?;
    for goal in &report.goals {
        if let Some(note) = notes.get(&goal.key) {
            writeln!(page, "### `{}`\n\n{note}\n", goal.key)?;
        }
    }
    Ok(())
}

fn rates(page: &mut String, report: &Report) -> fmt::Result {
    if report.rates.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "## Operations

Operations per second of the server's CPU time, and per second of the clock, where the client may be the slow side. `ratio`
is our server divided by the other one, by CPU time. `p50` and `p99` are the time from a message to its answer.
`just compare --help` explains the works, and `--help` of its command `serve` the other servers.

| work | by | a CPU second | a second | ratio | each round | by the clock | p50 | p99 |
|---|---|---:|---:|---:|---|---:|---:|---:|"
    )?;
    for rate in &report.rates {
        let ours = rate.contestant == Contestant::Ours;
        let work = if ours { format!("`{}`", name(rate.work)) } else { String::new() };
        let (cpu, wall) = (rate.per_cpu_second.median, rate.per_second.median);
        write!(page, "| {work} | {} | {} | {} |", rate.contestant, number(cpu), number(wall))?;
        if ours {
            write!(page, " | | |")?;
        } else {
            let Spread { median, least, most } = rate.ratio;
            let [ratio, least, most, clock] =
                [median, least, most, rate.ratio_by_clock.median].map(|it| Unit::Ratio.text(it));
            write!(page, " {ratio} | {least} to {most} | {clock} |")?;
        }
        let answers = rate.answers.as_ref();
        let [p50, p99] = [answers.map(|of| of.p50), answers.map(|of| of.p99)]
            .map(|of| of.map_or_else(String::new, |of| seconds(of.median / 1e6)));
        writeln!(page, " {p50} | {p99} |")?;
    }
    writeln!(page)
}

fn costs(page: &mut String, report: &Report) -> fmt::Result {
    if report.costs.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "## Where the time goes

For each operation of the server: CPU time in the program and in the kernel, how often a thread slept, and the system calls,
counted by `strace -f -c` in a run of its own, in which everything is slower. `tcp` is the floor: the same bytes, echoed or
thrown away.

| work | by | program | kernel | sleeps | system calls |
|---|---|---:|---:|---:|---|"
    )?;
    for cost in &report.costs {
        let ours = cost.contestant == Contestant::Ours;
        let work = if ours { format!("`{}`", name(cost.work)) } else { String::new() };
        let [program, kernel] = [cost.program, cost.kernel].map(|it| seconds(it / 1e6));
        let all: f64 = cost.system_calls.values().sum();
        let mut calls: Vec<_> =
            cost.system_calls.iter().filter(|(_, each)| **each >= (all * RARE).max(NONE)).collect();
        calls.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let calls: Vec<_> = calls.iter().map(|(name, each)| format!("{name} {each:.3}")).collect();
        let (by, sleeps, calls) = (cost.contestant, cost.sleeps, calls.join(", "));
        writeln!(page, "| {work} | {by} | {program} | {kernel} | {sleeps:.3} | {calls} |")?;
    }
    writeln!(page)
}

fn wire(page: &mut String, report: &Report) -> fmt::Result {
    if report.wire.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "## Bytes of a call

The bytes on TCP for the multiplication of two small integers, for each call after the first ones of a connection.

| by | request | response |
|---|---:|---:|"
    )?;
    for Wire { contestant, request, response } in &report.wire {
        writeln!(page, "| {contestant} | {request:.0} | {response:.0} |")?;
    }
    writeln!(page)
}

fn durable(page: &mut String, report: &Report) -> fmt::Result {
    let Some(durable) = &report.durable else { return Ok(()) };
    let size = Unit::Bytes.text(durable.bytes as f64);
    writeln!(
        page,
        "## An upload to the disk

`fourmodes client-streaming upload` of {size} to a fresh server, in seconds from its first request to the answer that the
file is durable: checksum compared, file and directory fsynced. Beside it `cp` of the same file on the same disk, with an
fsync of the copy and of its directory. Both read from the page cache. The time in which the client reads the file for its
checksum is not included. No process is pinned to a core.

| round | upload | `cp` + `fsync` |
|---:|---:|---:|"
    )?;
    for (round, (upload, copy)) in durable.upload_seconds.iter().zip(&durable.copy_seconds).enumerate() {
        writeln!(page, "| {} | {} | {} |", round + 1, seconds(*upload), seconds(*copy))?;
    }
    writeln!(page)
}

fn memory(page: &mut String, report: &Report) -> fmt::Result {
    let Some(memory) = &report.memory else { return Ok(()) };
    writeln!(
        page,
        "## Memory

Resident memory of one server before, while and after {} bidirectional streams are open and idle on {} connections.
`after`: the minimum while the server is idle after the connections were closed, for the time of ten measurements, and when
it was reached. `after calls`: after unary calls for one measurement. The next round uses the same process.

| round | before | open | a stream | at the end of the connections | after | | after calls |
|---:|---:|---:|---:|---:|---:|---:|---:|",
        number(memory.streams as f64),
        memory.connections
    )?;
    for (index, round) in memory.rounds.iter().enumerate() {
        let [before, open, closed, after, calls] =
            [round.before, round.open, round.closed, round.after, round.after_calls]
                .map(|it| Unit::Bytes.text(it as f64));
        let each = Unit::Bytes.text(round.open.saturating_sub(round.before) as f64 / memory.streams as f64);
        let settled = seconds(round.after_seconds);
        writeln!(
            page,
            "| {} | {before} | {open} | {each} | {closed} | {after} | {settled} | {calls} |",
            index + 1
        )?;
    }
    writeln!(page)
}

fn beside(page: &mut String, report: &Report) -> fmt::Result {
    let Some(beside) = &report.beside else { return Ok(()) };
    writeln!(
        page,
        "## Calls beside an upload

Small unary calls on one connection, {} per second, half of the {} that one connection with 64 in flight reached.
Calls start when they are due, even if earlier calls are unanswered, and their time counts from then. Beside them, another
connection uploads messages of 64 KiB at full speed, which the server discards; its client has a lower priority.

| round | p50 | p90 | p99 | p99.9 | beside an upload of | p50 | p90 | p99 | p99.9 |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        number(beside.per_second),
        number(beside.highest_per_second)
    )?;
    let uploads = beside.beside_upload.iter().zip(&beside.upload_bytes_per_second);
    for (round, (alone, (with, upload))) in beside.alone.iter().zip(uploads).enumerate() {
        let cells = |of: &crate::latency::Latency| {
            [of.p50, of.p90, of.p99, of.p999].map(|it| seconds(it / 1e6)).join(" | ")
        };
        let upload = Unit::BytesPerSecond.text(*upload);
        writeln!(page, "| {} | {} | {upload} | {} |", round + 1, cells(alone), cells(with))?;
    }
    writeln!(page)
}

fn growth(page: &mut String, report: &Report) -> fmt::Result {
    if !report.streams.is_empty() {
        writeln!(page, "## More streams\n")?;
        picture(page, "streams", "Messages answered over the number of streams", report)?;
        writeln!(page, "| streams | connections | by | a CPU second | each round | a second |")?;
        writeln!(page, "|---:|---:|---|---:|---:|---:|")?;
    }
    for point in &report.streams {
        let (cpu, wall) = (point.per_cpu_second, number(point.per_second.median));
        let spread = format!("{} to {}", number(cpu.least), number(cpu.most));
        let (streams, connections, by) = (point.streams, point.connections, point.contestant);
        writeln!(page, "| {streams} | {connections} | {by} | {} | {spread} | {wall} |", number(cpu.median))?;
    }
    if !report.sizes.is_empty() {
        writeln!(
            page,
            "\n## Longer messages

A message and an answer of the same length, on one stream. A message may have 4 MiB in total, so the longest payload is ten
bytes shorter.
"
        )?;
        picture(page, "sizes", "Time until the answer over the size of a message", report)?;
        writeln!(page, "| size | by | p50 | each round | p99 |\n|---:|---|---:|---:|---:|")?;
    }
    for point in &report.sizes {
        let size = Unit::Bytes.text(point.bytes.into());
        let [p50, least, most, p99] =
            [point.p50.median, point.p50.least, point.p50.most, point.p99.median].map(|it| seconds(it / 1e6));
        writeln!(page, "| {size} | {} | {p50} | {least} to {most} | {p99} |", point.contestant)?;
    }
    Ok(())
}

fn picture(page: &mut String, name: &str, words: &str, report: &Report) -> fmt::Result {
    if svg::figures(report).iter().any(|(there, _)| *there == name) {
        writeln!(page, "![{words}]({})\n", svg::path(name))?;
    }
    Ok(())
}

fn seconds(value: f64) -> String {
    Unit::Seconds.text(value)
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

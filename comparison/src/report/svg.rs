//! The pictures.

use shared_chart::{Axis, Bar, BarChart, Figure, Group, LineChart, Mark, Panel, Scale, Series, Unit};

use super::{
    goal::{Bound, Goal},
    goals::COLUMNAR,
    model::Report,
};
use crate::work::Contestant;

/// Each with its name, those for which there are figures.
pub(super) fn figures(report: &Report) -> Vec<(&'static str, Figure)> {
    let figures = [
        ("goals", !report.goals.iter().all(|goal| goal.measured.is_none()), goals as fn(&Report) -> Figure),
        ("streams", !report.streams.is_empty(), streams),
        ("sizes", !report.sizes.is_empty(), sizes),
    ];
    let drawn = figures.into_iter().filter(|(_, there, _)| *there);
    drawn.map(|(name, _, draw)| (name, draw(report))).collect()
}

/// Where a picture is below `docs`.
pub(super) fn path(name: &str) -> String {
    format!("performance/{name}.svg")
}

/// What cannot be compared with each other is in panels of its own.
fn goals(report: &Report) -> Figure {
    let group = |goal: &Goal| {
        let measured = goal.measured?;
        let bar = Bar {
            name: String::new(),
            value: measured.median,
            spread: Some((measured.least, measured.most)),
            mark: Some(Mark { value: goal.bound.value(), name: "goal".to_owned() }),
        };
        Some(Group { name: goal.key.clone(), bars: vec![bar] })
    };
    let panel = |title: &str, label: &str, unit, wanted: fn(&Goal) -> bool| {
        let groups: Vec<_> = report.goals.iter().filter(|goal| wanted(goal)).filter_map(group).collect();
        let x = Axis { label: label.to_owned(), unit, scale: Scale::Linear };
        (!groups.is_empty()).then(|| Panel::Bars(BarChart { title: title.to_owned(), x, groups }))
    };
    let times = "times what the other one does";
    let panels = [
        panel("At least as much", times, Unit::Ratio, |goal| {
            matches!(goal.bound, Bound::AtLeast(_)) && goal.key != COLUMNAR
        }),
        panel("Values in one message, beside a message each", times, Unit::Ratio, |goal| {
            goal.key == COLUMNAR
        }),
        panel("At most as long", "times as long", Unit::Ratio, |goal| matches!(goal.bound, Bound::AtMost(_))),
        panel("At most as large", "resident memory", Unit::Bytes, |goal| {
            matches!(goal.bound, Bound::BytesAtMost(_))
        }),
    ];
    Figure {
        title: "What was measured, and the goals",
        notes: vec![
            about(report),
            "Bars: medians. Lines on them: from the least to the most of a round.".to_owned(),
        ],
        panels: panels.into_iter().flatten().collect(),
    }
}

fn streams(report: &Report) -> Figure {
    let line = |contestant, of: fn(&crate::growth::Streams) -> f64| {
        let points = report.streams.iter().filter(|point| point.contestant == contestant);
        points.map(|point| (point.streams as f64, of(point))).collect()
    };
    let chart = |title: &str, of: fn(&crate::growth::Streams) -> f64| {
        Panel::Lines(LineChart {
            title: title.to_owned(),
            x: Axis { label: "streams at once".to_owned(), unit: Unit::Count, scale: Scale::Log },
            y: Axis { label: "messages answered".to_owned(), unit: Unit::PerSecond, scale: Scale::Linear },
            series: [Contestant::Ours, Contestant::BareTonic]
                .map(|contestant| Series { name: contestant.to_string(), points: line(contestant, of) })
                .into(),
        })
    };
    Figure {
        title: "More streams",
        notes: vec![about(report), "32 bytes there and back, the next ones after the answer.".to_owned()],
        panels: vec![
            chart("For each second of the server's CPU time", |point| point.per_cpu_second.median),
            chart("For each second", |point| point.per_second.median),
        ],
    }
}

fn sizes(report: &Report) -> Figure {
    let line = |contestant, name: &str, of: fn(&crate::growth::Size) -> f64| Series {
        name: format!("{contestant}, {name}"),
        points: report
            .sizes
            .iter()
            .filter(|point| point.contestant == contestant)
            .map(|point| (point.bytes.into(), of(point) / 1e6))
            .collect(),
    };
    let chart = LineChart {
        title: String::new(),
        x: Axis { label: "bytes of a message".to_owned(), unit: Unit::Bytes, scale: Scale::Log },
        y: Axis { label: "until the answer".to_owned(), unit: Unit::Seconds, scale: Scale::Log },
        series: [Contestant::Ours, Contestant::BareTonic]
            .into_iter()
            .flat_map(|contestant| {
                [
                    line(contestant, "p50", |point| point.p50.median),
                    line(contestant, "p99", |point| point.p99.median),
                ]
            })
            .collect(),
    };
    Figure {
        title: "Longer messages",
        notes: vec![
            about(report),
            "One message there and as much back on one stream, again and again.".to_owned(),
        ],
        panels: vec![Panel::Lines(chart)],
    }
}

/// Where this is from.
fn about(report: &Report) -> String {
    let (machine, versions) = (&report.machine, &report.versions);
    let debug = if versions.profile == "debug" { "DEBUG BINARIES, which say nothing. " } else { "" };
    format!("{debug}{}, {} cores, {} {}", machine.cpu, machine.cores, machine.os, versions.commit)
}

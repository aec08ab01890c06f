//! Draws the throughput, cost and latency of the ways as SVG.

use std::io;

use shared_chart::{Axis, Bar, BarChart, Figure, Group, LineChart, Panel, Scale, Series, Unit};

use crate::{
    Request,
    pattern::{Goal, TimeOf},
    report::{Figures, Measured},
};

/// The points of a latency line: from the median to one message in a million, as far as
/// there are enough messages.
const LEFT: [f64; 14] = [2.0, 4.0, 10.0, 20.0, 40.0, 1e2, 2e2, 4e2, 1e3, 4e3, 1e4, 4e4, 1e5, 1e6];
/// If the values differ by more than this factor, the small ones would not be visible.
const SPAN: f64 = 50.0;

pub(crate) fn svg(request: &Request, measured: &[Measured]) -> io::Result<String> {
    let figures = || measured.iter().filter_map(|measured| measured.outcome.as_ref().ok());
    let both = figures().all(|figures| figures.server_cpu().is_some());
    let whose = if both {
        "CPU time per message, client and server together"
    } else {
        "CPU time per message, client"
    };
    let cpu = |figures: &Figures| {
        Some(figures.client_cpu()? + figures.server_cpu().filter(|_| both).unwrap_or_default())
    };
    let wire =
        |figures: &Figures| Some(figures.per_message((figures.wire_sent + figures.wire_received) as f64));
    let mut panels = vec![
        bars(measured, "Throughput", "messages a second", Unit::PerSecond, |figures| Some(figures.rate())),
        bars(measured, "Work", whose, Unit::Seconds, cpu),
        bars(measured, "On the wire", "bytes per message, both directions together", Unit::Bytes, wire),
    ];
    // Not every platform reports CPU time.
    panels.retain(|chart| !chart.groups.is_empty());
    let mut panels: Vec<_> = panels.into_iter().map(Panel::Bars).collect();
    for goal in [Goal::Deliver, Goal::Receive, Goal::Call] {
        panels.extend(times(measured, goal).map(Panel::Lines));
    }
    Figure { title: "The cost of a message in each way", notes: vec![request.to_string()], panels }.svg()
}

fn bars(
    measured: &[Measured],
    title: &str,
    label: &str,
    unit: Unit,
    value: impl Fn(&Figures) -> Option<f64>,
) -> BarChart {
    let mut groups: Vec<Group> = Vec::new();
    for Measured { goal, pattern, outcome } in measured {
        let Some(value) = outcome.as_ref().ok().and_then(&value) else { continue };
        let bar = Bar { name: goal.name().to_owned(), value, ..Bar::default() };
        match groups.iter_mut().find(|group| group.name == pattern.title()) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group { name: pattern.title().to_owned(), bars: vec![bar] }),
        }
    }
    let all =
        || groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value).filter(|value| *value > 0.0);
    let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    let scale = if most > SPAN * least { Scale::Log } else { Scale::Linear };
    let how = if scale == Scale::Log { " (logarithmic)" } else { "" };
    BarChart { title: title.to_owned(), x: Axis { label: format!("{label}{how}"), unit, scale }, groups }
}

/// The ways with a time for each message; `None` if no way has one.
fn times(measured: &[Measured], goal: Goal) -> Option<LineChart> {
    let series = measured
        .iter()
        .filter(|measured| measured.goal == goal)
        .filter_map(|measured| Some((measured.pattern, measured.outcome.as_ref().ok()?)))
        .filter(|(_, figures)| matches!(figures.time_of, TimeOf::Answer | TimeOf::Wait | TimeOf::Call));
    let series: Vec<_> = series
        .map(|(pattern, figures)| {
            let most = figures.messages as f64;
            let points = LEFT.iter().filter(|left| **left <= most);
            let points = points.map(|left| (*left, figures.quantile(1.0 - 1.0 / left))).collect();
            Series { name: pattern.title().to_owned(), points }
        })
        .collect();
    let axis = |label: &str, unit| Axis { label: label.to_owned(), unit, scale: Scale::Log };
    (!series.is_empty()).then(|| LineChart {
        title: format!("Time of a message: {}", goal.name()),
        x: axis("percentile of the messages", Unit::Percentile),
        y: axis("time", Unit::Seconds),
        series,
    })
}

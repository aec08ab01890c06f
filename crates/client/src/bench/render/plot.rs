//! A picture: how much passes, what it costs, and how long it takes.

use shared_chart::{Axis, Bar, BarChart, Figure, Group, LineChart, Panel, Scale, Series, Unit};

use super::asked;
use crate::{
    bench::{
        Bench,
        report::{Figures, Measured},
        ways::{self, Goal, TimeOf, Way},
    },
    config::Config,
};

/// Where a line of times has its points: from the median on to a message in a
/// million, as far as there are so many.
const LEFT: [f64; 14] = [2.0, 4.0, 10.0, 20.0, 40.0, 1e2, 2e2, 4e2, 1e3, 4e3, 1e4, 4e4, 1e5, 1e6];
/// From more than so many times as much on, what is small could not be seen.
const SPAN: f64 = 50.0;

pub(in crate::bench) fn svg(config: &Config, bench: &Bench, measured: &[Measured]) -> String {
    let mut panels = vec![
        Panel::Bars(bars(measured, "Throughput", "messages a second", Unit::PerSecond, |figures| {
            vec![("", figures.rate())]
        })),
        Panel::Bars(bars(
            measured,
            "CPU time of a message",
            "CPU time a message",
            Unit::Seconds,
            |figures| {
                let sides = [("client", figures.client_cpu()), ("server", figures.server_cpu())];
                sides.into_iter().filter_map(|(side, cpu)| Some((side, cpu?))).collect()
            },
        )),
        Panel::Bars(bars(
            measured,
            "On the wire",
            "bytes a message, both directions",
            Unit::Bytes,
            |figures| vec![("", figures.per_message((figures.wire_sent + figures.wire_received) as f64))],
        )),
    ];
    for (goal, title) in
        [(Goal::Deliver, "Time to the answer: deliver"), (Goal::Receive, "Time to the answer: receive")]
    {
        panels.extend(times(measured, goal, title).map(Panel::Lines));
    }
    // A panel for nothing is none: CPU time is not known everywhere.
    panels.retain(|panel| !matches!(panel, Panel::Bars(chart) if chart.groups.is_empty()));
    Figure {
        title: "What a message costs, in each way".to_owned(),
        notes: vec![asked(config, bench)],
        panels,
    }
    .svg()
}

fn bars(
    measured: &[Measured],
    title: &str,
    label: &str,
    unit: Unit,
    values: impl Fn(&Figures) -> Vec<(&'static str, f64)>,
) -> BarChart {
    let group = |Measured { goal, way, outcome }: &Measured| {
        let values = values(outcome.as_ref().ok()?);
        let bars = values.into_iter().map(|(name, value)| {
            let name = if name.is_empty() { goal.name() } else { name };
            Bar { name: name.to_owned(), value, ..Bar::default() }
        });
        let bars: Vec<_> = bars.collect();
        (!bars.is_empty()).then(|| Group { name: format!("{}: {}", goal.name(), way.title()), bars })
    };
    let groups: Vec<_> = measured.iter().filter_map(group).collect();
    let all =
        || groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value).filter(|value| *value > 0.0);
    let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    let scale = if most > SPAN * least { Scale::Log } else { Scale::Linear };
    let how = if scale == Scale::Log { ", in factors" } else { "" };
    BarChart { title: title.to_owned(), x: Axis { label: format!("{label}{how}"), unit, scale }, groups }
}

/// The ways that have an answer for each message; none, when no way has.
fn times(measured: &[Measured], goal: Goal, title: &str) -> Option<LineChart> {
    // A way has the same look in both charts.
    let order = |way: Way| ways::ALL.iter().position(|(_, other)| *other == way);
    let mut series: Vec<_> = measured
        .iter()
        .filter(|measured| measured.goal == goal)
        .filter_map(|measured| Some((measured.way, measured.outcome.as_ref().ok()?)))
        .filter(|(_, figures)| matches!(figures.time_of, TimeOf::Answer | TimeOf::Wait))
        .collect();
    series.sort_by_key(|(way, _)| order(*way));
    let series: Vec<_> = series
        .into_iter()
        .map(|(way, figures)| {
            let most = figures.messages as f64;
            let points = LEFT.iter().filter(|left| **left <= most);
            let points = points.map(|left| (*left, figures.quantile(1.0 - 1.0 / left))).collect();
            Series { name: way.title().to_owned(), points }
        })
        .collect();
    let axis = |label: &str, unit| Axis { label: label.to_owned(), unit, scale: Scale::Log };
    (!series.is_empty()).then(|| LineChart {
        title: title.to_owned(),
        x: axis("percentile of the messages", Unit::Percentile),
        y: axis("time", Unit::Seconds),
        series,
    })
}

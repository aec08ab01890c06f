//! Lines: how one number depends on another.

use crate::{
    axis::Axis,
    figure::{Figure, Panel, head},
    svg::{self, Anchor, MARGIN, Svg, WIDTH},
};

/// Points that belong together, and a line through them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// What they are of, for the legend.
    pub name: String,
    /// In the order in which the line goes through them.
    pub points: Vec<(f64, f64)>,
}

/// A chart of one or several lines.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LineChart {
    /// What it shows.
    pub title: String,
    /// What it depends on.
    pub x: Axis,
    /// What was measured.
    pub y: Axis,
    /// The lines. From the ninth on their looks repeat.
    pub series: Vec<Series>,
}

/// Of what is between the axes.
const HEIGHT: f64 = 300.0;
/// A marker on each of more points is a smear.
const MOST_MARKERS: usize = 24;

impl LineChart {
    /// The picture of this chart alone.
    #[must_use]
    pub fn svg(&self) -> String {
        let title = String::new();
        let chart = Self { title, ..self.clone() };
        Figure { title: self.title.clone(), notes: Vec::new(), panels: vec![Panel::Lines(chart)] }.svg()
    }

    pub(crate) fn draw(&self, svg: &mut Svg, top: f64) -> f64 {
        let names: Vec<&str> = self.series.iter().map(|series| series.name.as_str()).collect();
        let label = head(svg, top, &self.title, &names) + 14.0;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let across = self.x.range(points().map(|(x, _)| *x));
        let up = self.y.range(points().map(|(_, y)| *y));

        let widest = up.ticks.iter().map(|(_, text)| svg::width(text)).fold(0.0, f64::max);
        let (left, right) = (MARGIN + widest + 8.0, WIDTH - MARGIN - 16.0);
        let (high, low) = (label + 12.0, label + 12.0 + HEIGHT);
        let to_x = |place: f64| left + place * (right - left);
        let to_y = |place: f64| low - place * (low - high);

        svg.text("quiet", Anchor::Start, (MARGIN, label), &self.y.label);
        for (value, text) in &up.ticks {
            let Some(y) = up.place(*value).map(to_y) else { continue };
            svg.stroke("grid", (left, y), (right, y));
            svg.text("quiet", Anchor::End, (left - 8.0, y + 4.0), text);
        }
        // Labels that would touch are left out; the lines stay.
        let mut free = f64::MIN;
        for (value, text) in &across.ticks {
            let Some(x) = across.place(*value).map(to_x) else { continue };
            svg.stroke("grid", (x, high), (x, low));
            let half = svg::width(text) / 2.0;
            if x - half >= free {
                svg.text("quiet", Anchor::Middle, (x, low + 18.0), text);
                free = x + half + 6.0;
            }
        }
        svg.stroke("rule", (left, low), (right, low));
        svg.text("quiet", Anchor::Middle, (left.midpoint(right), low + 38.0), &self.x.label);

        for (look, series) in self.series.iter().enumerate() {
            let places: Vec<_> = series
                .points
                .iter()
                .map(|(x, y)| across.place(*x).map(to_x).zip(up.place(*y).map(to_y)))
                .collect();
            svg.path(look, &places);
            let every = places.len().div_ceil(MOST_MARKERS).max(1);
            for place in places.iter().step_by(every).flatten() {
                svg.marker(look, *place);
            }
        }
        low + 42.0
    }
}

//! One chart, or several below each other under one title.

use crate::{
    bars::BarChart,
    lines::LineChart,
    svg::{self, Anchor, MARGIN, Svg},
};

/// Several charts in one picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figure {
    /// Above all of them.
    pub title: String,
    /// Below the title, a line each: what was measured, where, how.
    pub notes: Vec<String>,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

/// A part of a figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Panel {
    /// A line chart.
    Lines(LineChart),
    /// A bar chart.
    Bars(BarChart),
}

impl Figure {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut svg = Svg::default();
        let mut y = MARGIN + 14.0;
        svg.text("title", Anchor::Start, (MARGIN, y), &self.title);
        y += 6.0;
        for note in &self.notes {
            y += 16.0;
            svg.text("quiet", Anchor::Start, (MARGIN, y), note);
        }
        for panel in &self.panels {
            y += 20.0;
            y = match panel {
                Panel::Lines(chart) => chart.draw(&mut svg, y),
                Panel::Bars(chart) => chart.draw(&mut svg, y),
            };
        }
        svg.finish(&self.title, y + MARGIN)
    }
}

/// The title of a chart and the legend below it. Returns where they end.
pub(crate) fn head(svg: &mut Svg, top: f64, title: &str, legend: &[&str]) -> f64 {
    const SWATCH: f64 = 28.0;
    let mut y = top;
    // A chart by itself has its title above.
    if !title.is_empty() {
        y += 14.0;
        svg.text("heading", Anchor::Start, (MARGIN, y), title);
    }
    y += 8.0;
    let mut x = svg::WIDTH;
    for (look, name) in legend.iter().enumerate() {
        let entry = SWATCH + 6.0 + svg::width(name) + 18.0;
        if x + entry > svg::WIDTH - MARGIN {
            (x, y) = (MARGIN, y + 18.0);
        }
        svg.path(look, &[Some((x, y - 4.0)), Some((x + SWATCH, y - 4.0))]);
        svg.marker(look, (x + SWATCH / 2.0, y - 4.0));
        svg.text("name", Anchor::Start, (x + SWATCH + 6.0, y), name);
        x += entry;
    }
    y + 8.0
}

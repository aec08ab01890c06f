//! Bars: things beside each other.

use std::collections::BTreeSet;

use plotters::{
    chart::ChartBuilder,
    element::{EmptyElement, PathElement, Rectangle, Text},
    style::{Color as _, TRANSPARENT, text_anchor::HPos},
};

use crate::{
    area::{Area, Error},
    axis::Axis,
    theme::{self, GRID, INK, QUIET},
};

/// A chart of horizontal bars, each with its value and its name beside it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BarChart {
    /// What it shows.
    pub title: String,
    /// What the bars are as long as.
    pub x: Axis,
    /// From top to bottom.
    pub groups: Vec<Group>,
}

/// Bars that are to be compared with each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// To the left of them.
    pub name: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bar {
    /// What it is; bars of one name have one colour. May be empty where there is
    /// one in each group.
    pub name: String,
    /// How long it is.
    pub value: f64,
    /// From where to where it may as well have been.
    pub spread: Option<(f64, f64)>,
    /// Where it should have come to, or where it ends at last.
    pub mark: Option<Mark>,
}

/// A line across a bar.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mark {
    /// Where it is.
    pub value: f64,
    /// What it is, such as `goal`; written with the bar's value.
    pub name: String,
}

/// From one bar to the next of its group, in pixels.
const STEP: i32 = 20;
const BETWEEN_GROUPS: i32 = 12;
/// What is below the bars.
const LABELS: i32 = 44;

impl BarChart {
    pub(crate) fn height(&self) -> i32 {
        self.rows() + LABELS
    }

    fn rows(&self) -> i32 {
        self.groups.iter().map(|group| group.bars.len() as i32 * STEP + BETWEEN_GROUPS).sum()
    }

    pub(crate) fn draw(&self, area: &Area<'_>) -> Result<(), Error> {
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let x = self.x.over(bars().flat_map(Bar::values));
        let (origin, can_draw) = (x.origin(), |value: f64| self.x.scale.can_draw(value));
        let names: BTreeSet<&str> = bars().map(|bar| bar.name.as_str()).collect();

        // Behind a bar that takes all of the width there is still room for its text.
        let widest = self.groups.iter().map(|group| theme::width(&group.name)).max().unwrap_or_default();
        let behind = bars().map(|bar| theme::width(&self.text(bar))).max().unwrap_or_default();
        let mut chart = ChartBuilder::on(area)
            .margin_right(behind + 20)
            .x_label_area_size(LABELS)
            .y_label_area_size(widest + 10)
            .build_cartesian_2d(x, f64::from(self.rows())..0.0)?;
        let quiet = theme::text(12.0, QUIET, HPos::Left);
        chart
            .configure_mesh()
            .disable_y_mesh()
            .axis_style(QUIET)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(quiet.clone())
            .axis_desc_style(quiet)
            .x_labels(7)
            .y_labels(0)
            .x_desc(&self.x.label)
            .draw()?;
        let plot = chart.plotting_area();
        let label = |place, text: &str, dx, colour, across| {
            let text = Text::new(text.to_owned(), (dx, 0), theme::text(12.0, colour, across));
            plot.draw(&(EmptyElement::at(place) + text))
        };
        let mut top = BETWEEN_GROUPS / 2;
        for group in &self.groups {
            let rows = group.bars.len() as i32 * STEP;
            label((origin, f64::from(top) + f64::from(rows) / 2.0), &group.name, -10, INK, HPos::Right)?;
            for bar in &group.bars {
                let at = |part: f64| f64::from(top) + part * f64::from(STEP);
                if can_draw(bar.value) {
                    let look = names.iter().position(|name| *name == bar.name).unwrap_or_default();
                    let corners = [(origin, at(0.1)), (bar.value, at(0.9))];
                    plot.draw(&Rectangle::new(corners, theme::series(look).filled()))?;
                }
                let mut strokes = Vec::new();
                if let Some((low, high)) = bar.spread.filter(|(low, high)| can_draw(*low) && can_draw(*high))
                {
                    strokes.push([(low, at(0.5)), (high, at(0.5))]);
                    strokes.extend([low, high].map(|end| [(end, at(0.3)), (end, at(0.7))]));
                }
                if let Some(mark) = bar.mark.as_ref().filter(|mark| can_draw(mark.value)) {
                    strokes.push([(mark.value, at(0.0)), (mark.value, at(1.0))]);
                }
                for stroke in strokes {
                    plot.draw(&PathElement::new(stroke, INK.stroke_width(2)))?;
                }
                let end = bar.values().filter(|value| can_draw(*value)).fold(origin, f64::max);
                label((end, at(0.5)), &self.text(bar), 8, INK, HPos::Left)?;
                top += STEP;
            }
            top += BETWEEN_GROUPS;
        }
        Ok(())
    }

    /// What is behind a bar: its value, and what else there is to say.
    fn text(&self, bar: &Bar) -> String {
        let value = if bar.value.is_finite() { self.x.unit.text(bar.value) } else { "none".to_owned() };
        let mark = bar.mark.as_ref().map(|mark| format!("{} {}", mark.name, self.x.unit.text(mark.value)));
        let name = Some(bar.name.clone()).filter(|name| !name.is_empty());
        [Some(value), name, mark].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Bar {
    /// All that has a place on the axis.
    fn values(&self) -> impl Iterator<Item = f64> {
        let (low, high) = self.spread.unwrap_or((self.value, self.value));
        [self.value, low, high].into_iter().chain(self.mark.as_ref().map(|mark| mark.value))
    }
}

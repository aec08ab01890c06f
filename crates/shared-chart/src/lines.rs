//! Lines: how one number depends on another.

use plotters::{
    chart::ChartBuilder,
    element::{Circle, PathElement},
    series::LineSeries,
    style::{Color as _, TRANSPARENT, text_anchor::HPos},
};

use crate::{
    area::{Area, Error},
    axis::Axis,
    theme::{self, GRID, INK, QUIET},
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

/// From one name in the legend to the next.
const ROW: i32 = 20;
/// Of a line in the legend.
const SAMPLE: i32 = 30;

impl LineChart {
    pub(crate) const HEIGHT: i32 = 340;

    pub(crate) fn draw(&self, area: &Area<'_>) -> Result<(), Error> {
        let widest = self.series.iter().map(|series| theme::width(&series.name)).max().unwrap_or_default();
        let legend = SAMPLE + widest + 20;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = self.x.over(points().map(|(x, _)| *x));
        let y = self.y.over(points().map(|(_, y)| *y));
        let mut chart = ChartBuilder::on(area)
            .margin_top(10)
            .margin_right(legend)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d(x, y)?;
        let quiet = theme::text(12.0, QUIET, HPos::Left);
        chart
            .configure_mesh()
            .axis_style(QUIET)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(quiet.clone())
            .axis_desc_style(quiet)
            .x_labels(7)
            .y_labels(8)
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .draw()?;
        let right = area.dim_in_pixel().0 as i32 - legend + 14;
        for (index, Series { name, points }) in self.series.iter().enumerate() {
            let colour = theme::series(index);
            let can_draw = |(x, y): &(f64, f64)| self.x.scale.can_draw(*x) && self.y.scale.can_draw(*y);
            for points in points.split(|point| !can_draw(point)) {
                let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2).filled());
                chart.draw_series(line.point_size(3))?;
            }
            let row = 20 + ROW * index as i32;
            let sample = [(right, row), (right + SAMPLE, row)];
            area.draw(&PathElement::new(sample, colour.stroke_width(2)))?;
            area.draw(&Circle::new((right + SAMPLE / 2, row), 3, colour.filled()))?;
            area.draw_text(name, &theme::text(12.0, INK, HPos::Left), (right + SAMPLE + 6, row))?;
        }
        Ok(())
    }
}

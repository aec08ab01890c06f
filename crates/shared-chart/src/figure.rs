//! One chart, or several below each other under one title.

use std::io;

use plotters::{drawing::IntoDrawingArea as _, prelude::SVGBackend, style::text_anchor::HPos};

use crate::{
    area::Error,
    bars::BarChart,
    lines::LineChart,
    theme::{self, PAPER, QUIET},
};

/// Of every picture, in pixels.
const WIDTH: i32 = 800;
/// At the left and the right of everything.
const MARGIN: i32 = 24;
const TITLE: i32 = 44;
const NOTE: i32 = 17;
const HEADING: i32 = 34;

/// Several charts in one picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figure {
    /// Above all of them.
    pub title: &'static str,
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
    ///
    /// # Errors
    ///
    /// When plotters cannot draw it.
    pub fn svg(&self) -> io::Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(io::Error::other)?;
        Ok(theme::styled(&svg, self.title))
    }

    fn draw(&self, svg: &mut String) -> Result<(), Error> {
        let head = TITLE + NOTE * self.notes.len() as i32;
        let panels: i32 = self.panels.iter().map(|panel| panel.heading() + panel.height()).sum();
        let size = (WIDTH as u32, (head + panels + MARGIN / 2) as u32);
        let picture = SVGBackend::with_string(svg, size).into_drawing_area();
        picture.fill(&PAPER)?;
        picture.draw_text(self.title, &theme::bold(18.0), (MARGIN, 30))?;
        for (row, note) in self.notes.iter().enumerate() {
            let place = (MARGIN, TITLE + NOTE * row as i32 + 10);
            picture.draw_text(note, &theme::text(12.0, QUIET, HPos::Left), place)?;
        }
        let mut rest = picture.margin(head, 0, MARGIN, MARGIN);
        for panel in &self.panels {
            let (title, below) = rest.split_vertically(panel.heading());
            title.draw_text(panel.title(), &theme::bold(14.0), (0, 22))?;
            let (area, below) = below.split_vertically(panel.height());
            match panel {
                Panel::Lines(chart) => chart.draw(&area)?,
                Panel::Bars(chart) => chart.draw(&area)?,
            }
            rest = below;
        }
        picture.present()
    }
}

impl Panel {
    fn title(&self) -> &str {
        match self {
            Self::Lines(chart) => &chart.title,
            Self::Bars(chart) => &chart.title,
        }
    }

    /// How much room the title takes: a chart by itself may have none.
    fn heading(&self) -> i32 {
        if self.title().is_empty() { 14 } else { HEADING }
    }

    fn height(&self) -> i32 {
        match self {
            Self::Lines(_) => LineChart::HEIGHT,
            Self::Bars(chart) => chart.height(),
        }
    }
}

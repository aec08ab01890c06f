//! Charts as SVG, for reports that people read in a browser and on GitHub.
//!
//! `plotters` draws them. This crate adds what all our pictures share: numbers
//! with units, one look, and colours for light and dark, so that a picture can be
//! read wherever an `<img>` shows it. No information is in a colour alone: lines
//! differ by dash as well, and each bar has its name beside it. The same input
//! gives the same bytes.
//!
//! Numbers that cannot be drawn (NaN, infinities, negative ones, zero on a
//! logarithmic axis) leave a gap.

mod area;
mod axis;
mod bars;
mod figure;
mod lines;
#[cfg(test)]
mod tests;
mod theme;
mod unit;

pub use axis::{Axis, Scale};
pub use bars::{Bar, BarChart, Group, Mark};
pub use figure::{Figure, Panel};
pub use lines::{LineChart, Series};
pub use unit::Unit;

//! Charts as SVG, for reports that are read in a browser and on GitHub.
//!
//! A chart brings its own background and its colours for light and dark, by
//! `prefers-color-scheme`, so that it can be read wherever an `<img>` shows it.
//! No information is in a colour alone: lines differ by marker and dash as well,
//! and each bar has its name beside it. The same input gives the same bytes.
//!
//! Numbers that cannot be drawn (NaN, infinities, what is not above zero on a
//! logarithmic axis) leave a gap; nothing is put in their place.

mod axis;
mod bars;
mod figure;
mod lines;
mod svg;
#[cfg(test)]
mod tests;
mod unit;

pub use axis::{Axis, Scale};
pub use bars::{Bar, BarChart, Group, Mark};
pub use figure::{Figure, Panel};
pub use lines::{LineChart, Series};
pub use unit::Unit;

//! Where a chart is drawn, and how that fails.

use std::io;

use plotters::{
    coord::Shift,
    drawing::{DrawingArea, DrawingAreaErrorKind},
    prelude::SVGBackend,
};

/// A part of a picture.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Error = DrawingAreaErrorKind<io::Error>;

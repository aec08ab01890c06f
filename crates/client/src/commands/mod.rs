//! The commands that are no scenario, a thin file each: what the user said becomes a
//! request to the library that does the work.

mod check;
mod measure;

pub(crate) use self::{check::check, measure::measure};

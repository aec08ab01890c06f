//! What shows a run.

use std::{io, time::Duration};

use timeline::Failed;

use crate::{recommend::Recommendation, report::Measured};

/// All of a run.
pub(crate) struct Summary<'a> {
    pub(crate) measured: &'a [Measured],
    pub(crate) recommendations: Vec<Recommendation>,
    pub(crate) took: Duration,
    /// Why it is not all that was asked for.
    pub(crate) failed: Option<Failed>,
}

/// Shows a run in one format.
pub(crate) trait Renderer: Send {
    /// Tells of a pattern as it ends.
    fn measured(&mut self, measured: &Measured) -> io::Result<()>;

    /// Tells of the whole, in the end.
    fn finish(&mut self, summary: &Summary<'_>) -> io::Result<()>;
}

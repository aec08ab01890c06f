//! What a run found out, for the renderers.

use std::{io, time::Duration};

use serde_json::Value;
use timeline::Failed;

use crate::{
    check::Group,
    outcome::{Outcome, Verdict},
};

/// A check that has ended.
pub(crate) struct Ended {
    pub(crate) group: Group,
    pub(crate) name: &'static str,
    pub(crate) time: Duration,
    pub(crate) outcome: Outcome,
    /// What passed on its connections, as it is in `--output json`.
    pub(crate) evidence: Value,
}

/// All of a run.
pub(crate) struct Summary {
    /// By verdict, in their order.
    pub(crate) counts: [u64; 4],
    pub(crate) time: Duration,
    /// Why it was not looked at everything.
    pub(crate) failed: Option<Failed>,
}

impl Summary {
    pub(crate) fn is_ok(&self) -> bool {
        self.count(Verdict::Fail) == 0 && self.failed.is_none()
    }

    pub(crate) fn count(&self, verdict: Verdict) -> u64 {
        self.counts[verdict as usize]
    }
}

/// Shows a run in one format.
pub(crate) trait Renderer: Send {
    /// Tells of a check as it ends.
    fn ended(&mut self, ended: &Ended) -> io::Result<()>;

    /// Tells of the whole, in the end.
    fn finish(&mut self, summary: &Summary) -> io::Result<()>;
}

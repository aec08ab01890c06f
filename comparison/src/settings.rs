//! What a run is asked for.

use std::{path::PathBuf, time::Duration};

use crate::{subject::Subject, work::Contestant};

/// How much is done.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our server.
    pub server: PathBuf,
    /// Our client.
    pub client: PathBuf,
    /// What to measure.
    pub subjects: Vec<Subject>,
    /// Beside whom; everyone when it is empty. Of the works: the others have
    /// theirs.
    pub against: Vec<Contestant>,
    /// Whether servers and clients share all cores.
    pub unpinned: bool,
    /// How often; at least once.
    pub rounds: usize,
    /// How long a measurement takes.
    pub each: Duration,
    /// The size of the file that is uploaded to the disk, in bytes.
    pub upload: u64,
    /// How many idle streams.
    pub idle_streams: usize,
}

//! `--record`: all that passes, kept in a file.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::Args;
use http::Uri;
use tokio::{sync::mpsc, time::timeout};
use watch::{Event, Recorder, Taps};

use crate::failure::Failure;

/// How much of a message is kept, in bytes.
pub(crate) const RECORDED: usize = 16 << 20;

/// Where all that passes is kept.
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Also record all traffic, for `show` and `replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Maximum size of the --record file
    #[arg(
        long,
        default_value = "1GiB",
        value_name = "SIZE",
        value_parser = shared_process::bytes,
        allow_hyphen_values = true
    )]
    record_limit: u64,
}

impl Record {
    /// Begins the file, if there is to be one.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn recorder(&self, server: &Uri) -> Result<Option<Recorder>, Failure> {
        let Some(file) = &self.record else { return Ok(None) };
        let recorder = Recorder::create(file, server, self.record_limit);
        recorder.map(Some).map_err(|error| self.failure(&error))
    }

    /// The file cannot be written.
    pub(crate) fn failure(&self, error: &io::Error) -> Failure {
        let file = self.record.clone().unwrap_or_default();
        Failure::output(&format!("the recording {}", file.display()), error)
    }
}

/// What this program's own calls are recorded by.
pub(crate) struct Recording {
    recorder: Arc<Mutex<Result<Recorder, io::Error>>>,
    /// Ends with the last connection.
    open: mpsc::Receiver<()>,
}

impl Recording {
    /// Records what `taps` hear.
    pub(crate) fn of(taps: &Taps, recorder: Recorder) -> (Self, Taps) {
        let recorder = Arc::new(Mutex::new(Ok(recorder)));
        let (is_open, open) = mpsc::channel(1);
        let recording = Self { recorder: recorder.clone(), open };
        let taps = taps.also(move |event: &Event| {
            let _ = &is_open;
            let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = recorder.as_mut().map_or(Ok(()), |recorder| recorder.write(event)) {
                *recorder = Err(error);
            }
        });
        (recording, taps)
    }

    /// Waits a moment for the end of the connections, which has the end of the calls.
    ///
    /// # Errors
    ///
    /// When not all could be written.
    pub(crate) async fn finish(mut self) -> io::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(1);
        // What is there by then is kept.
        let _ = timeout(PATIENCE, self.open.recv()).await;
        match &mut *self.recorder.lock().unwrap_or_else(PoisonError::into_inner) {
            Ok(recorder) => recorder.flush(),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

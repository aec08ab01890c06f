//! `show`: a recording, drawn again.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::sync::oneshot;
use watch::{Recording, RecordingError};

use super::watch::{Drawn, config};
use crate::{failure::Failure, options::Options, stop::stop, values::speed};

/// Draw a recording of `watch` or `call`
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Recording of `watch --record` or `call --record`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Draw in the original pace
    #[arg(long)]
    live: bool,
    /// Speed factor, with --live
    #[arg(long, default_value = "1", value_name = "FACTOR", value_parser = speed)]
    speed: f64,
    #[command(flatten)]
    drawn: Drawn,
}

impl Show {
    /// Draws it until it is done, or the user has had enough.
    ///
    /// # Errors
    ///
    /// When the options make no sense.
    pub(crate) async fn run(self: Box<Self>, options: Options) -> Result<ExitCode, String> {
        let config = config("show", None, options)?.without_frames("show")?;
        let tried = format!("show {}", self.file.display());
        let (file, speed) = (self.file.clone(), self.live.then_some(self.speed));
        let shown = async {
            let stop = stop(config.deadline)?;
            let wrong = |error| Failure::input(&file, error);
            let mut recording = Recording::open(&file).map_err(wrong)?;
            self.drawn.prepare()?;
            let pools = self.drawn.pools()?;
            let mut drawing = self.drawn.drawing(&config, &recording.server, None, None, pools);
            let (done, drawn) = oneshot::channel();
            // A thread of its own: it sleeps, and it may wait for a terminal.
            std::thread::spawn(move || {
                let begun = Instant::now();
                let ended = loop {
                    match recording.event() {
                        Ok(Some(event)) => {
                            let due = speed.map(|speed| Duration::from_micros(event.at_us).div_f64(speed));
                            std::thread::sleep(due.unwrap_or_default().saturating_sub(begun.elapsed()));
                            if let Err(error) = drawing.event(event) {
                                break Ok(Err(error));
                            }
                        }
                        // What is there of a damaged one is drawn.
                        ended => break ended.map(|_| drawing.end()),
                    }
                };
                let _ = done.send(ended);
            });
            tokio::select! {
                biased;
                failure = stop => Err(failure),
                ended = drawn => match ended {
                    Ok(Ok(drawn)) => drawn.map_err(|error| Failure::unwritten(&error)),
                    Ok(Err(error)) => Err(Failure::input(&file, error)),
                    Err(_) => Err(Failure::input(&file, RecordingError::None)),
                },
            }
        };
        Ok(match shown.await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(&tried),
        })
    }
}

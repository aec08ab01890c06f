//! Where a run is shown: on stdout, and in the file of a diagram.

use std::{
    fs::File,
    io::{self, Write},
};

use http::Uri;
use indicatif::ProgressBar;
use prost_reflect::DescriptorPool;
use timeline::{Json, Mermaid, Renderer, Text, Timeline};
use watch::{Depth, Seen, Taps};

use crate::{config::Config, failure::Failure, options::Output, prompt};

/// With `quiet` only what the user asked for is shown; on stderr when stdout is for
/// something else.
///
/// # Errors
///
/// When the file for the diagram cannot be created.
pub(crate) fn timeline(config: &Config, quiet: bool, on_stderr: bool) -> Result<Timeline, Failure> {
    // Takes some milliseconds, which would otherwise be the first call's.
    timeline_of(config, quiet, on_stderr, || shared_proto::POOL.clone())
}

/// Likewise of calls whose messages are in some pool.
///
/// # Errors
///
/// As there.
pub(crate) fn timeline_of(
    config: &Config,
    quiet: bool,
    on_stderr: bool,
    pool: impl FnOnce() -> DescriptorPool,
) -> Result<Timeline, Failure> {
    let progress = ProgressBar::hidden();
    let out = AboveAll { progress: progress.clone(), on_stderr };
    let mut renderers: Vec<Box<dyn Renderer>> = vec![match config.output {
        Output::Text => Box::new(Text::to_stdout(out, quiet)),
        Output::Json | Output::Junit => Box::new(Json::new(out, quiet)),
    }];
    if let Some(path) = &config.diagram {
        let file = File::create(path)
            .map_err(|error| Failure::output(&format!("the diagram {}", path.display()), &error))?;
        renderers.push(Box::new(Mermaid::new(file)));
    }
    let drawn = !quiet || config.diagram.is_some();
    Ok(Timeline::new(renderers, drawn.then(pool), transport::explain, progress))
}

/// Draws the connections of a client, and their frames if these are wanted. `keep` is as
/// [there](Depth::keep).
pub(crate) fn taps(timeline: &Timeline, client: &str, server: &Uri, keep: usize, frames: bool) -> Taps {
    let (timeline, client, server) = (timeline.clone(), client.to_owned(), server.clone());
    Taps::new(Depth { keep, frames, ..Depth::default() }, move |event| match &event.seen {
        Seen::Connected { .. } => timeline.connected(&client, &server),
        Seen::Frame { from, text } => timeline.frame(&client, *from, text),
        _ => {}
    })
}

/// Hands on to stdout what a scenario is about. Blocks.
///
/// # Errors
///
/// When stdout takes no more.
pub(crate) fn hand_on(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::unwritten(&error))
}

/// stdout, above the line that is edited, if there is one.
#[derive(Debug)]
pub(crate) struct Above;

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        prompt::write_above(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// stdout or stderr, which may be on the terminal that the progress bar is drawn on, or a line
/// is edited on.
struct AboveAll {
    progress: ProgressBar,
    on_stderr: bool,
}

impl Write for AboveAll {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress.suspend(|| match self.on_stderr {
            true => io::stderr().write(bytes),
            false => prompt::write_above(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

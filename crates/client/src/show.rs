//! Where a run is shown: on stdout, and in the file of a diagram.

use std::{
    fs::File,
    io::{self, Write},
};

use indicatif::ProgressBar;
use timeline::{Json, Mermaid, Renderer, Text, Timeline};

use crate::{config::Config, failure::Failure, options::Output, prompt};

/// With `quiet` only what the user asked for is shown.
///
/// # Errors
///
/// When the file for the diagram cannot be created.
pub(crate) fn timeline(config: &Config, quiet: bool) -> Result<Timeline, Failure> {
    let progress = ProgressBar::hidden();
    let stdout = AboveAll { progress: progress.clone() };
    let mut renderers: Vec<Box<dyn Renderer>> = vec![match config.output {
        Output::Text => Box::new(Text::to_stdout(stdout, quiet)),
        Output::Json | Output::Junit => Box::new(Json::new(stdout, quiet)),
    }];
    if let Some(path) = &config.diagram {
        let file = File::create(path)
            .map_err(|error| Failure::output(&format!("the diagram {}", path.display()), &error))?;
        renderers.push(Box::new(Mermaid::new(file)));
    }
    let drawn = !quiet || config.diagram.is_some();
    // Takes some milliseconds, which would otherwise be the first call's.
    let pool = drawn.then(|| shared_proto::POOL.clone());
    Ok(Timeline::new(renderers, pool, transport::explain, progress))
}

/// stdout, which may be on the terminal that the progress bar is drawn on, or a line
/// is edited on.
struct AboveAll {
    progress: ProgressBar,
}

impl Write for AboveAll {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress.suspend(|| prompt::write_above(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

//! Where a run is shown: on stdout, and in the file of a diagram.

use std::{
    fs::File,
    io::{self, Stdout, Write},
};

use indicatif::ProgressBar;
use timeline::{Json, Mermaid, Renderer, Text, Timeline};

use crate::{config::Config, failure::Failure, options::Output};

/// # Errors
///
/// When the file for the diagram cannot be created.
pub(crate) fn timeline(config: &Config) -> Result<Timeline, Failure> {
    let progress = ProgressBar::hidden();
    let stdout = AboveProgress { out: io::stdout(), progress: progress.clone() };
    let mut renderers: Vec<Box<dyn Renderer>> = vec![match config.output {
        Output::Text => Box::new(Text::to_stdout(stdout, config.quiet)),
        Output::Json | Output::Junit => Box::new(Json::new(stdout, config.quiet)),
    }];
    if let Some(path) = &config.diagram {
        let file = File::create(path)
            .map_err(|error| Failure::output(&format!("the diagram {}", path.display()), &error))?;
        renderers.push(Box::new(Mermaid::new(file)));
    }
    let drawn = !config.quiet || config.diagram.is_some();
    // Takes some milliseconds, which would otherwise be the first call's.
    let pool = drawn.then(|| shared_proto::POOL.clone());
    Ok(Timeline::new(renderers, pool, transport::explain, progress))
}

/// stdout, which may be on the terminal that the progress bar is drawn on.
struct AboveProgress {
    out: Stdout,
    progress: ProgressBar,
}

impl Write for AboveProgress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress.suspend(|| self.out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

//! What the user gets to see of a run.

mod json;
mod junit;
mod text;

use std::io::{self, IsTerminal as _};

use http::Uri;

use super::{Ended, Summary};
use crate::{cli::Output, config::Config};

pub(super) trait Renderer: Send {
    /// Tells of a check as it ends.
    fn ended(&mut self, ended: &Ended) -> io::Result<()>;

    /// Tells of the whole, in the end.
    fn finish(&mut self, summary: &Summary) -> io::Result<()>;
}

pub(super) fn for_output(config: &Config, server: &Uri) -> Box<dyn Renderer> {
    let out = io::stdout();
    match config.output {
        Output::Text => Box::new(text::Text::new(out, server, config.quiet, io::stdout().is_terminal())),
        Output::Json => Box::new(json::Json::new(out)),
        Output::Junit => Box::new(junit::Junit::new(out, server)),
    }
}

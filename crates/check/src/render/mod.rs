//! What the user gets to see of a run.

mod json;
mod junit;
mod text;

use std::io::{self, IsTerminal as _};

use http::Uri;

use crate::{Output, report::Renderer};

pub(crate) fn for_output(output: Output, server: &Uri) -> Box<dyn Renderer> {
    let out = io::stdout();
    match output {
        Output::Text { quiet } => Box::new(text::Text::new(out, server, quiet, io::stdout().is_terminal())),
        Output::Json => Box::new(json::Json::new(out)),
        Output::Junit => Box::new(junit::Junit::new(out, server)),
    }
}

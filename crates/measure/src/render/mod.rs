//! What the user gets to see of a run.

mod json;
pub(crate) mod plot;
mod text;

use std::io::{self, IsTerminal as _};

use console::Term;
use timeline::words::columns;

use crate::{Output, Request, renderer::Renderer};

pub(crate) fn for_output(output: Output, request: &Request) -> Box<dyn Renderer> {
    let out = io::stdout();
    match output {
        Output::Json => Box::new(json::Json::new(out, request)),
        Output::Text { quiet } => {
            let colour = io::stdout().is_terminal() && console::colors_enabled();
            let columns = columns(&Term::stdout()).unwrap_or(usize::MAX);
            Box::new(text::Text::new(out, request.to_string(), quiet, colour, columns))
        }
    }
}

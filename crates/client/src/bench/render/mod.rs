//! What the user gets to see of a run.

mod json;
pub(super) mod plot;
mod text;

use std::io::{self, IsTerminal as _};

use indicatif::HumanCount;
use shared_chart::Unit;

use super::{Amount, Bench, Summary, report::Measured};
use crate::{cli::Output, config::Config};

pub(super) trait Renderer: Send {
    /// Tells of a way as it ends.
    fn measured(&mut self, measured: &Measured) -> io::Result<()>;

    /// Tells of the whole, in the end.
    fn finish(&mut self, summary: &Summary<'_>) -> io::Result<()>;
}

pub(super) fn for_output(config: &Config, bench: &Bench) -> Box<dyn Renderer> {
    let out = io::stdout();
    match config.output {
        Output::Json => Box::new(json::Json::new(out, bench)),
        // There is no report of this in JUnit's form.
        Output::Text | Output::Junit => {
            let colour = io::stdout().is_terminal() && console::colors_enabled();
            Box::new(text::Text::new(out, asked(config, bench), config.quiet, colour))
        }
    }
}

/// What was measured, in a line.
fn asked(config: &Config, bench: &Bench) -> String {
    let server = config.servers.first().map(ToString::to_string).unwrap_or_default();
    let amount = match bench.amount {
        Amount::Messages(messages) => HumanCount(messages).to_string(),
        Amount::Duration(duration) => humantime::format_duration(duration).to_string(),
    };
    let rate = bench.rate.map(|rate| format!(" at {}/s", HumanCount(rate))).unwrap_or_default();
    let connections = match bench.connections {
        1 => "1 connection".to_owned(),
        several => format!("{several} connections"),
    };
    format!(
        "{server}: messages of {}, {amount}{rate} in each way, up to {} in flight over {connections}",
        Unit::Bytes.text(bench.size as f64),
        HumanCount(bench.concurrency as u64)
    )
}

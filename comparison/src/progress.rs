//! What is being done, on stderr when that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{elapsed_precise}  {prefix}  {bar:20} {pos}/{len}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(std::time::Duration::from_secs(1));
        Self(bar)
    }

    /// So many steps follow.
    pub(crate) fn begin(&self, what: &'static str, steps: usize) {
        self.0.set_prefix(what);
        self.0.set_length(steps as u64);
        self.0.set_position(0);
    }

    /// The next of them.
    pub(crate) fn step(&self, which: impl Into<String>) {
        self.0.set_message(which.into());
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

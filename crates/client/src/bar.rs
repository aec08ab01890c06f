//! Progress, for work that takes a while.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Begins anew at 0 of `total` bytes. Shown on a terminal alone.
pub(crate) fn of_bytes(progress: &ProgressBar, total: u64) {
    progress.set_length(total);
    progress.reset();
    if io::stderr().is_terminal() {
        progress.set_draw_target(ProgressDrawTarget::stderr());
    }
    let style =
        ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} {msg}");
    if let Ok(style) = style {
        progress.set_style(style);
    }
}

/// How often a bar is moved.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Ways that are measured one after the other. Shown on a terminal alone.
pub(crate) fn of_ways() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new(1);
    progress.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {elapsed}, {eta} left  {msg}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(TICK);
    progress
}

/// Counts what is done. Shown on a terminal alone.
pub(crate) fn of_checks() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} checks in {elapsed}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(TICK);
    progress
}

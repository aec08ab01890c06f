//! Progress, for work that takes a while.

use std::io::{self, IsTerminal as _};

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

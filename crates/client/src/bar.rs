//! Progress, for work that takes a while.

use std::{
    fmt::Write,
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// After this long without a byte the bar says that the server is waited for.
const PAUSE: Duration = Duration::from_secs(1);

/// Begins anew at 0 of `total` bytes. Shown on a terminal alone.
pub(crate) fn of_bytes(progress: &ProgressBar, total: u64, waits_for: &'static str) {
    progress.set_length(total);
    progress.reset();
    if !io::stderr().is_terminal() {
        return;
    }
    // What is left of the line is the bar's: it never wraps. Neither does the `^C`
    // that a terminal writes at its cursor, two columns before the end.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {pace}  \x1b[2D") {
        progress.set_style(style.with_key("pace", pace(waits_for)));
    }
    progress.set_draw_target(ProgressDrawTarget::stderr());
    // So that a pause is seen.
    progress.enable_steady_tick(PAUSE / 4);
}

/// How fast it is, and what is waited for when it is not.
fn pace(waits_for: &'static str) -> impl Fn(&ProgressState, &mut dyn Write) + Clone + Send + Sync + 'static {
    let moved = Arc::new(Mutex::new((0, Instant::now())));
    move |state, out| {
        let mut moved = moved.lock().unwrap_or_else(PoisonError::into_inner);
        if moved.0 != state.pos() {
            *moved = (state.pos(), Instant::now());
        }
        // Nothing is lost with a bar.
        let _ = if moved.1.elapsed() < PAUSE {
            write!(out, "{}/s, {} left", HumanBytes(state.per_sec() as u64), HumanDuration(state.eta()))
        } else {
            write!(out, "waiting for {waits_for}")
        };
    }
}

//! When to stop.

use std::io;

use shared_process::Signals;

/// Completes with the first SIGINT or SIGTERM (Ctrl-C elsewhere). The second one
/// ends the process with status 130 at once, whatever is open.
///
/// # Errors
///
/// When the handlers cannot be installed.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::install()?;
    Ok(async move {
        signals.next().await;
        tokio::spawn(async move {
            signals.next().await;
            tracing::warn!("second signal: cutting open calls");
            std::process::exit(130);
        });
    })
}

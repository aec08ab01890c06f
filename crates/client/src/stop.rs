//! What ends a run from outside: the user, or the deadline.

use std::{io, time::Duration};

use shared_process::Signals;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Completes with the first signal, or when the deadline has passed.
///
/// # Errors
///
/// When the handlers for signals cannot be installed.
pub(crate) fn stop(deadline: Option<Duration>) -> Result<impl Future<Output = Failure>, Failure> {
    let interrupted = interrupted().map_err(|error| Failure::signals(&error))?;
    Ok(async move {
        tokio::select! {
            biased;
            () = interrupted.cancelled() => Failure::interrupted(),
            failure = over(deadline) => failure,
        }
    })
}

/// When the deadline has passed; never, without one.
async fn over(deadline: Option<Duration>) -> Failure {
    match deadline {
        Some(deadline) => {
            tokio::time::sleep(deadline).await;
            Failure::deadline(deadline)
        }
        None => std::future::pending().await,
    }
}

/// A token that the first SIGINT or SIGTERM cancels. The second one ends the
/// process at once.
///
/// On a thread of its own: every other one may be stuck in writing to a stdout
/// that nobody reads.
fn interrupted() -> io::Result<CancellationToken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut signals = Signals::install()?;
    drop(entered);
    let token = CancellationToken::new();
    let first = token.clone();
    std::thread::spawn(move || {
        runtime.block_on(async move {
            signals.next().await;
            first.cancel();
            signals.next().await;
            std::process::exit(130);
        });
    });
    Ok(token)
}

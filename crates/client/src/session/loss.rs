//! A connection that is lost, until there is another one.

use std::time::Instant;

use timeline::Timeline;
use transport::retry::Backoff;

use crate::failure::Failure;

/// Since when there is no connection.
pub(super) struct Loss {
    pub(super) since: Instant,
    attempts: u32,
    backoff: Backoff,
}

impl Loss {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), attempts: 0, backoff: Backoff::default() }
    }

    /// Waits before the next attempt, and says so.
    pub(super) async fn pause(&mut self, failure: &Failure, timeline: &Timeline) {
        self.attempts += 1;
        let pause = self.backoff.pause(failure.pushback(), failure.retry_after());
        timeline.reconnecting(self.attempts, pause, failure.message());
        tokio::time::sleep(pause).await;
    }
}

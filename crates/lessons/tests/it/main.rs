//! Both halves of each lesson do what it says, and its page tells of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

mod bidi_deadlock;
mod cancelled_commit;
mod command_line;
mod deadline_ends_nothing;
mod docs;
mod early_answer;
mod endless_shutdown;
mod eof_is_not_commit;
mod hot_reconnect;
mod lost_in_lag;
mod one_channel;
mod reconnect_gap;
mod retry_twice;
mod silent_peer;
mod small_messages;
mod unbounded;
mod wrong_mode;

use std::{io, time::Duration};

use lessons::proto::POOL;
use timeline::Diagram;

/// Runs half a lesson, which draws as it does for a learner.
fn run<T>(half: impl AsyncFnOnce(Diagram) -> anyhow::Result<T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let half = half(Diagram::timeless(io::sink(), &POOL, transport::explain));
        tokio::time::timeout(Duration::from_secs(60), half).await.expect("ends by itself").unwrap()
    })
}

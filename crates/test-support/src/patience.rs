//! How long a test waits.

use std::{
    panic::Location,
    time::{Duration, Instant},
};

use tokio::{runtime::Builder, time::timeout};

/// For what takes far less on any machine.
pub const LONG: Duration = Duration::from_secs(120);

/// A grace period that no test waits for.
pub const LONG_GRACE: Duration = Duration::from_secs(600);

/// Runs a test on threads of its own, as the server's program does. The test
/// itself is on the caller's thread and may block it.
pub fn run(test: impl Future<Output = ()>) {
    const WHOLE_TEST: Duration = Duration::from_secs(300);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ended = runtime.block_on(async { timeout(WHOLE_TEST, test).await });
    ended.expect("the test does not come to an end");
}

/// Waits for what is expected to happen soon.
#[track_caller]
pub fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        let done = timeout(LONG, future).await;
        done.unwrap_or_else(|_| panic!("still waiting after {LONG:?}: {caller}"))
    }
}

/// Asks again and again until the answer is yes.
#[track_caller]
pub fn until(mut condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    within(async move {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
}

/// Waits for a condition that another process or thread brings about.
#[track_caller]
pub fn eventually(mut condition: impl FnMut() -> bool, otherwise: &str) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "{otherwise}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

//! Which core a process runs on: the servers have one, the clients another.

/// Keeps this thread, and what it starts, on the core of the servers.
pub(crate) fn of_servers() {
    platform::stay_on(0);
}

/// Likewise, on another core, where the machine has one.
pub(crate) fn of_clients() {
    platform::stay_on(1);
}

/// Lets this thread, and what it starts, run wherever it likes.
pub(crate) fn all() {
    platform::anywhere();
}

/// Lets this thread wait for the others on its core.
pub(crate) fn stand_back() {
    platform::stand_back();
}

#[cfg(target_os = "linux")]
mod platform {
    use std::sync::LazyLock;

    use rustix::{
        process::nice,
        thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    };

    /// What this process may have, seen before it chose.
    static ALLOWED: LazyLock<CpuSet> =
        LazyLock::new(|| sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new()));

    pub(super) fn stay_on(number: usize) {
        let allowed = (0..CpuSet::MAX_CPU).filter(|&core| ALLOWED.is_set(core));
        // The last one where there are fewer.
        if let Some(core) = allowed.take(number + 1).last() {
            let mut cores = CpuSet::new();
            cores.set(core);
            let _ = sched_setaffinity(None, &cores);
        }
    }

    pub(super) fn anywhere() {
        let _ = sched_setaffinity(None, &ALLOWED);
    }

    pub(super) fn stand_back() {
        let _ = nice(19);
    }
}

/// Nothing happens where the platform can't.
#[cfg(not(target_os = "linux"))]
mod platform {
    pub(super) fn stay_on(_: usize) {}
    pub(super) fn anywhere() {}
    pub(super) fn stand_back() {}
}

//! Pins processes to cores: the servers to one, the clients to another.

/// Pins this thread, and the processes that it starts, to the servers' core.
pub(crate) fn of_servers() {
    platform::stay_on(0);
}

/// Pins this thread, and the processes that it starts, to the clients' core: a second
/// one, if the machine has it.
pub(crate) fn of_clients() {
    platform::stay_on(1);
}

/// Lets this thread, and the processes that it starts, run on every core.
pub(crate) fn all() {
    platform::anywhere();
}

/// Gives way to the other threads on this thread's core.
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

    /// The cores that this process may use, read before it pins itself.
    static ALLOWED: LazyLock<CpuSet> =
        LazyLock::new(|| sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new()));

    pub(super) fn stay_on(number: usize) {
        let allowed = (0..CpuSet::MAX_CPU).filter(|&core| ALLOWED.is_set(core));
        // The last core, if there are fewer.
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

/// On platforms without CPU affinity these functions do nothing.
#[cfg(not(target_os = "linux"))]
mod platform {
    pub(super) fn stay_on(_: usize) {}
    pub(super) fn anywhere() {}
    pub(super) fn stand_back() {}
}

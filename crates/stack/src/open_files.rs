//! How many files the process may have open. Each connection is one, and each file
//! of a service.

use crate::settings::Settings;

/// For listeners, the runtimes of the workers, the log and the store.
const OTHERS: usize = 64;

/// Raises the limit of the process (`RLIMIT_NOFILE`) to what the settings need, as
/// far as the system lets it.
pub(crate) fn provide(settings: &Settings) {
    let wanted = (settings.limits.connections + settings.open_files + OTHERS) as u64;
    let have = match rlimit::increase_nofile_limit(wanted) {
        Ok(have) => have,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files is unknown");
            return;
        }
    };
    if have < wanted {
        tracing::warn!(
            have,
            wanted,
            "the process may open fewer files than --max-connections and the services need: raise the hard \
             limit (`ulimit -Hn`), or lower --max-connections"
        );
    }
}

//! The machine and the versions of a run.

use std::{collections::BTreeMap, fs, process::Command, thread::available_parallelism};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::{
    target::beside_this,
    work::{Contestant, name},
};

/// The machine, as far as it describes itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    /// The cores that this process may use.
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) os: String,
    pub(crate) kernel: String,
}

/// The versions of the programs that took part in the run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Versions {
    /// Figures of a `debug` build are meaningless.
    pub(crate) profile: String,
    /// The commit of the working copy; `-dirty` is appended if it had changes.
    pub(crate) commit: String,
    pub(crate) rustc: String,
    pub(crate) tonic: String,
    pub(crate) h2: String,
    pub(crate) hyper: String,
    pub(crate) tokio: String,
    /// Of the stacks that are programs of their own.
    #[serde(default)]
    pub(crate) stacks: BTreeMap<String, String>,
}

impl Machine {
    /// Call this before this process is pinned to a core.
    pub(crate) fn this() -> anyhow::Result<Self> {
        let kind = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(kind)?;
        Ok(Self {
            cpu: system.cpus().first().map_or_else(unknown, |cpu| cpu.brand().to_owned()),
            cores: available_parallelism().context("how many cores there are")?.get(),
            memory_bytes: system.total_memory(),
            os: System::long_os_version().unwrap_or_else(|_| unknown()),
            // The text after the number names the build.
            kernel: System::kernel_version().map_or_else(
                |_| unknown(),
                |version| version.split(['-', '+']).next().unwrap_or_default().to_owned(),
            ),
        })
    }
}

impl Versions {
    pub(crate) fn of(contestants: impl Iterator<Item = Contestant>) -> Self {
        Self {
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            commit: commit().unwrap_or_else(unknown),
            rustc: env!("COMPARISON_RUSTC").trim_start_matches("rustc ").to_owned(),
            tonic: locked("tonic"),
            h2: locked("h2"),
            hyper: locked("hyper"),
            tokio: locked("tokio"),
            stacks: contestants.filter_map(|it| Some((name(it), of_stack(it)?))).collect(),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn commit() -> Option<String> {
    let described = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    let described = described.status.success().then_some(described.stdout)?;
    Some(String::from_utf8(described).ok()?.trim().to_owned())
}

/// What its `build.sh` has written; connectrpc is a crate.
fn of_stack(contestant: Contestant) -> Option<String> {
    if contestant == Contestant::Connectrpc {
        return Some(locked("connectrpc"));
    }
    let file = beside_this(&format!("{}.version", name(contestant))).ok()?;
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}

/// The version of a crate that this program was built with.
fn locked(name: &str) -> String {
    version(include_str!("../Cargo.lock"), name).to_owned()
}

fn version<'a>(lock: &'a str, name: &str) -> &'a str {
    let (_, after) = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).unwrap_or_default();
    after.split('"').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_have_the_versions_that_the_server_has() {
        for name in ["tonic", "h2", "hyper", "tokio", "prost", "mimalloc"] {
            let server = version(include_str!("../../Cargo.lock"), name);
            assert!(server.starts_with(|c: char| c.is_ascii_digit()), "{name}: {server:?}");
            assert_eq!(version(include_str!("../Cargo.lock"), name), server, "{name}");
        }
    }
}

//! What keeps the domain's state: a file, or memory for a throw-away run.

mod file;
mod redb;
#[cfg(test)]
mod tests;
mod timed;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use domain::{
    platform::{self, Lock},
    store::{Memory, Store},
};
use tempfile::TempDir;

use self::redb::Redb;
pub(crate) use self::timed::Timed;
use crate::config::Data;

/// The state of one server.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Arc<dyn Store>,
    /// For what is too large for the store.
    files: PathBuf,
    /// Removed with everything in it at the end.
    _temporary: Option<TempDir>,
}

impl State {
    /// # Errors
    ///
    /// When the directory is not to be had, another server has it, or what is
    /// in it was not made by this program or is damaged.
    pub(crate) fn open(data: &Data) -> anyhow::Result<Self> {
        match data {
            Data::Memory => {
                let directory = tempfile::tempdir().context("no temporary directory for the state")?;
                Ok(Self {
                    store: Arc::new(Memory::default()),
                    files: directory.path().to_owned(),
                    _temporary: Some(directory),
                })
            }
            Data::Directory(directory) => {
                let lock = lock(directory)?;
                let store =
                    Redb::open(&directory.join("state.redb"), lock).context("cannot open the state")?;
                Ok(Self { store: Arc::new(store), files: directory.clone(), _temporary: None })
            }
        }
    }

    pub(crate) fn files(&self) -> &Path {
        &self.files
    }
}

/// The directory belongs to this server as long as it has the lock.
fn lock(directory: &Path) -> anyhow::Result<Lock> {
    let elsewhere = || format!("cannot keep the state in {}; choose another --data-dir", directory.display());
    platform::create_dir_all(directory).with_context(elsewhere)?;
    let lock = platform::lock(&directory.join("lock")).with_context(elsewhere)?;
    lock.with_context(|| {
        let directory = directory.display();
        format!(
            "another server has its state in {directory}; choose another place with --data-dir, or :memory:"
        )
    })
}

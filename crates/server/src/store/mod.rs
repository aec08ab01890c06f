//! What keeps the domain's state: a file, or memory for a throw-away run.

mod memory;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use tempfile::TempDir;

use self::memory::Memory;
use crate::{config::Data, domain::store::Store};

/// The state of one server.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Arc<dyn Store>,
    /// Where files are kept that are too large for the store.
    files: PathBuf,
    /// Removed with everything in it at the end.
    _temporary: Option<TempDir>,
}

impl State {
    pub(crate) fn open(data: &Data) -> anyhow::Result<Self> {
        match data {
            Data::Memory => {
                let directory = tempfile::tempdir().context("no temporary directory for the state")?;
                let store = Arc::new(Memory::default());
                Ok(Self { store, files: directory.path().to_owned(), _temporary: Some(directory) })
            }
            Data::Directory(directory) => {
                std::fs::create_dir_all(directory).with_context(|| {
                    format!("cannot create {}; choose another place with --data-dir", directory.display())
                })?;
                todo!()
            }
        }
    }

    pub(crate) fn files(&self) -> &Path {
        &self.files
    }
}

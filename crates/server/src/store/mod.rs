//! What keeps the domain's state: a file, memory for a throw-away run, or a database
//! of PostgreSQL.

#[cfg(unix)]
mod disk;
mod file;
mod postgres;
mod redb;
mod rows;
#[cfg(test)]
mod tests;
mod timed;

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use domain::{
    peers::Peers,
    platform::{self, Lock},
    store::{Memory, Store},
    uploads,
};
use stack::prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::{postgres::Postgres, redb::Redb, timed::Timed};
use crate::{
    config::Data,
    listed::{Listed, Own},
};

/// The state of one server. Dropped, it is closed for everyone.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Arc<dyn Store>,
    /// Notified when the file has failed: a read says whether it works again.
    pub(crate) failed: Arc<Notify>,
    file: Option<Arc<Redb>>,
    database: Option<Arc<Postgres>>,
    /// Never sends where there is no database.
    alone: watch::Sender<Vec<Listed>>,
    /// For what is too large for the store, unless that is a database.
    files: Option<PathBuf>,
    /// Removed with everything in it at the end.
    _temporary: Option<TempDir>,
}

impl State {
    /// # Errors
    ///
    /// When the directory is not to be had, another server has it, or what is
    /// in it was not made by this program, is damaged, or is not all there.
    pub(crate) fn open(data: &Data) -> anyhow::Result<Self> {
        match data {
            Data::Memory => {
                let directory = tempfile::tempdir().context("no temporary directory for the state")?;
                Ok(Self {
                    store: Arc::new(Memory::default()),
                    failed: Arc::default(),
                    file: None,
                    database: None,
                    alone: watch::Sender::default(),
                    files: Some(directory.path().to_owned()),
                    _temporary: Some(directory),
                })
            }
            Data::Directory(directory) => {
                let lock = lock(directory)?;
                let path = directory.join("state.redb");
                let is_new =
                    platform::metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
                ensure!(
                    !is_new || !uploads::has_files(directory).context("cannot look for uploads")?,
                    "{} is gone, and uploads that it knew are there: restore it from a backup, or move \
                     {0}'s neighbours, blobs and partial, away",
                    path.display(),
                );
                let store = Arc::new(Redb::open(&path, lock).context("cannot open the state")?);
                Ok(Self {
                    store: store.clone(),
                    failed: store.failed(),
                    file: Some(store),
                    database: None,
                    alone: watch::Sender::default(),
                    files: Some(directory.clone()),
                    _temporary: None,
                })
            }
        }
    }

    /// The state in the database at this address, which other servers may have as well.
    ///
    /// # Errors
    ///
    /// When the database cannot be used.
    pub(crate) async fn share(url: &str, own: Arc<Own>) -> anyhow::Result<Self> {
        let database = Arc::new(Postgres::open(url, own).await?);
        Ok(Self {
            store: database.clone(),
            failed: Arc::default(),
            file: None,
            database: Some(database),
            alone: watch::Sender::default(),
            files: None,
            _temporary: None,
        })
    }

    /// Measures the store and the disk.
    pub(crate) fn measure(&mut self, metrics: &mut Registry) {
        self.store = Arc::new(Timed::new(self.store.clone(), metrics));
        if let Some(database) = &self.database {
            database.measure(metrics);
        }
        #[cfg(unix)]
        if let Some(files) = &self.files {
            metrics.register_collector(Box::new(disk::Disk(files.clone())));
        }
    }

    /// The servers that have the same store.
    pub(crate) fn peers(&self) -> Peers {
        self.database.as_ref().map_or_else(Peers::alone, |database| database.peers())
    }

    /// The same for all servers that have this state.
    pub(crate) fn identity(&self) -> Option<&str> {
        self.database.as_ref().map(|database| database.identity())
    }

    /// The other servers that have this state, as clients learn of them.
    pub(crate) fn others(&self) -> watch::Receiver<Vec<Listed>> {
        self.database.as_ref().map_or_else(|| self.alone.subscribe(), |database| database.others())
    }

    /// Whether the database takes commits, and from then on.
    pub(crate) fn works(&self) -> Option<watch::Receiver<bool>> {
        self.database.as_ref().map(|database| database.works())
    }

    /// Cancelled when another server has declared this one dead.
    pub(crate) fn dead(&self) -> CancellationToken {
        self.database.as_ref().map(|database| database.dead()).unwrap_or_default()
    }

    /// Ends the use of the database. What was asked of it before is done.
    pub(crate) async fn close(&self) {
        if let Some(database) = &self.database {
            database.close().await;
        }
    }

    /// Where files belong that the store does not take.
    pub(crate) fn files(&self) -> Option<&Path> {
        self.files.as_deref()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.close();
        }
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

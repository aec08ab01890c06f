//! A store in one file, with group commit.
//!
//! One thread makes all commits. Those that arrive while it waits for the disk
//! become durable together with the next one, so their number a second does
//! not depend on how long a disk takes. Readers see what is durable and wait
//! for nobody.
//!
//! Nothing is acknowledged that is not on the disk. A commit has two phases: the
//! header names its pages only when they are synced. So a sync that fails leaves at
//! most the header in doubt. Then the file is opened anew, which writes the header
//! again and syncs it; after that the file says itself which commits it has, and an
//! answer is never a guess. A damaged file is refused. It is never taken for a new
//! one, nor for an older one.

mod medium;
mod writer;

use std::{
    any::Any,
    fmt, io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use domain::{
    platform::{self, Lock, sync_directory_of},
    store::{
        Answer, Extent, Id, READ_BYTES, Record, Store, StoreError, Watched, Write, Written, follow, kind,
    },
};
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase as _, StorageError, TableDefinition};
use tokio::sync::{Notify, mpsc, oneshot, watch};

#[cfg(test)]
pub(super) use self::medium::checked;
pub(super) use self::medium::{Medium, OpenError};
use self::{
    medium::{OnDisk, create},
    writer::Writer,
};
use super::rows::{Place, Stream};

/// Number, first, last and bytes of a stream.
type StreamRow = (u64, u64, u64, u64);
type RecordRow<'a> = (Option<Id>, &'a [u8]);

/// By name.
const STREAMS: TableDefinition<'_, &str, StreamRow> = TableDefinition::new("streams");
const RECORDS: TableDefinition<'_, Place, RecordRow<'_>> = TableDefinition::new("records");
/// A stream's number and an id to the sequence of the record that has it.
const IDS: TableDefinition<'_, (u64, Id), u64> = TableDefinition::new("ids");
const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
/// What the file is, and how often it was committed to.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("fourmodes");
const FORMAT: u64 = 1;

/// For pages in memory, in bytes. The operating system caches the rest.
const CACHE: usize = 8 << 20;
/// Commits that become durable together, at most.
const GROUP: usize = 4096;
/// What a write takes beside its own bytes, at most: the pages on its way through
/// the trees.
const PAGES: u64 = 16 << 10;

pub(super) struct Redb {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedSender<Job>,
}

struct Shared {
    /// `None` while the file cannot be opened again after it failed, and at the end.
    database: RwLock<Option<Database>>,
    closed: AtomicBool,
    /// After the database in the order of dropping: it lets go of the lock.
    medium: Box<dyn Medium>,
    watched: Mutex<Watched>,
    failed: Arc<Notify>,
}

struct Job {
    writes: Vec<Write>,
    answer: oneshot::Sender<Result<Vec<Written>, StoreError>>,
}

impl Redb {
    /// Opens the file, or makes it when there is none. `lock` is kept as long
    /// as the file is in use.
    pub(super) fn open(path: &Path, lock: Lock) -> Result<Self, OpenError> {
        match platform::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
            found => _ = found?,
        }
        // Also of a file that was there: whoever made it may have died before this.
        sync_directory_of(path)?;
        Self::with(Box::new(OnDisk { path: path.to_owned(), _lock: lock }))
    }

    pub(super) fn with(medium: Box<dyn Medium>) -> Result<Self, OpenError> {
        let database = RwLock::new(Some(medium.open()?));
        let shared = Arc::new(Shared {
            database,
            closed: AtomicBool::new(false),
            medium,
            watched: Mutex::default(),
            failed: Arc::default(),
        });
        // Until every handle to the store is gone.
        let (jobs, queue) = mpsc::unbounded_channel();
        let mut writer = Writer::new(shared.clone());
        platform::worker("store", GROUP, queue, move |jobs| writer.make(jobs))?;
        Ok(Self { shared, jobs })
    }

    /// Notified when the file has failed: a read says whether it can be used again.
    pub(super) fn failed(&self) -> Arc<Notify> {
        self.shared.failed.clone()
    }

    /// Writes what the next start has to know, so that it has nothing to repair.
    /// Whoever still has the store gets an error. Blocks.
    pub(super) fn close(&self) {
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        self.shared.closed.store(true, Relaxed);
        *database = None;
    }

    fn read_with<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Failed> + Send + 'static,
    ) -> Answer<T> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let read = platform::blocking(move || shared.read(read)).await;
            read.unwrap_or_else(|error| Err(StoreError::Damaged(error.to_string())))
        })
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("its pages make no sense").to_owned()
}

impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redb").finish_non_exhaustive()
    }
}

impl Store for Redb {
    fn commit(&self, writes: Vec<Write>) -> Answer<Vec<Written>> {
        let (answer, done) = oneshot::channel();
        // Sent now and not when the answer is awaited: the order is that of the calls.
        let sent = self.jobs.send(Job { writes, answer });
        Box::pin(async move {
            let gone = || StoreError::Broken("its thread has ended".to_owned());
            sent.map_err(|_| gone())?;
            done.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn read(&self, stream: &str, from: u64, most: usize) -> Answer<Vec<Record>> {
        let stream = stream.to_owned();
        self.read_with(move |transaction| {
            let found = find(&transaction.open_table(STREAMS)?, &stream)?;
            let empty = empty(&transaction.open_table(META)?, &stream)?;
            found.map_or(empty, |stream| stream.extent).reaches(from).map_err(Failed::Refused)?;
            let Some(Stream { number, .. }) = found else { return Ok(Vec::new()) };
            let mut records = Vec::new();
            let mut bytes = 0;
            for entry in
                transaction.open_table(RECORDS)?.range((number, from)..=(number, u64::MAX))?.take(most)
            {
                let (key, value) = entry?;
                let record = Bytes::copy_from_slice(value.value().1);
                bytes += record.len();
                if bytes > READ_BYTES && !records.is_empty() {
                    break;
                }
                records.push(Record { sequence: key.value().1, bytes: record });
            }
            Ok(records)
        })
    }

    fn extent(&self, stream: &str) -> Answer<Extent> {
        let stream = stream.to_owned();
        self.read_with(move |transaction| match find(&transaction.open_table(STREAMS)?, &stream)? {
            Some(stream) => Ok(stream.extent),
            None => Ok(empty(&transaction.open_table(META)?, &stream)?),
        })
    }

    fn streams(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Extent)>> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.read_with(move |transaction| {
            listed(&transaction.open_table(STREAMS)?, &prefix, &after, most, |row| stream_of(row).extent)
        })
    }

    fn watch(&self, stream: &str) -> watch::Receiver<u64> {
        follow(&mut self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner), stream)
    }

    fn get(&self, key: &str) -> Answer<Option<Bytes>> {
        let key = key.to_owned();
        self.read_with(move |transaction| {
            let value = transaction.open_table(KEYS)?.get(key.as_str())?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    fn list(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Bytes)>> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.read_with(move |transaction| {
            listed(&transaction.open_table(KEYS)?, &prefix, &after, most, Bytes::copy_from_slice)
        })
    }
}

/// Rows of a table whose names have a prefix and come after another one.
fn listed<V: redb::Value + 'static, T>(
    rows: &impl redb::ReadableTable<&'static str, V>,
    prefix: &str,
    after: &str,
    most: usize,
    of: impl Fn(V::SelfType<'_>) -> T,
) -> Result<Vec<(String, T)>, Failed> {
    let mut listed = Vec::new();
    for row in rows.range(prefix.max(after)..)? {
        let (name, value) = row?;
        if listed.len() == most || !name.value().starts_with(prefix) {
            break;
        }
        if name.value() > after {
            listed.push((name.value().to_owned(), of(value.value())));
        }
    }
    Ok(listed)
}

impl Shared {
    fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, Failed>) -> Result<T, StoreError> {
        let read = {
            let database = self.opened()?;
            let database = database.as_ref().ok_or_else(closed)?;
            database.begin_read().map_err(Failed::from).and_then(|transaction| read(&transaction))
        };
        read.map_err(|error| {
            let error = StoreError::from(error);
            if matches!(error, StoreError::Broken(_)) {
                // After an error a handle reads no more.
                tracing::error!(%error, "the store failed; reopening its file");
                *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
                self.failed.notify_one();
            }
            error
        })
    }

    /// The database, opened again if it could not be the last time.
    fn opened(&self) -> Result<RwLockReadGuard<'_, Option<Database>>, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if database.is_some() {
            return Ok(database);
        }
        drop(database);
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            self.open_into(&mut database)?;
        }
        drop(database);
        Ok(self.database.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many groups the file has. Readers are woken: there may be a commit whose
    /// answer was that it had failed.
    fn open_into(&self, database: &mut Option<Database>) -> Result<u64, StoreError> {
        if self.closed.load(Relaxed) {
            return Err(closed());
        }
        // The old handle holds the lock of the file.
        *database = None;
        let opened = self.medium.open().map_err(|error| {
            tracing::error!(%error, "the store cannot be opened");
            closed()
        })?;
        let commits = self.wake_all(&opened)?;
        *database = Some(opened);
        Ok(commits)
    }

    fn wake_all(&self, database: &Database) -> Result<u64, Failed> {
        let transaction = database.begin_read()?;
        let streams = transaction.open_table(STREAMS)?;
        for (name, watched) in &*self.watched.lock().unwrap_or_else(PoisonError::into_inner) {
            let last = find(&streams, name)?.map_or(0, |stream| stream.extent.last);
            watched.send_if_modified(|known| std::mem::replace(known, last) != last);
        }
        let commits = transaction.open_table(META)?.get("commits")?;
        Ok(commits.map_or(0, |commits| commits.value()))
    }
}

fn closed() -> StoreError {
    StoreError::Broken("its file cannot be opened".to_owned())
}

fn find(
    streams: &impl redb::ReadableTable<&'static str, StreamRow>,
    name: &str,
) -> Result<Option<Stream>, StorageError> {
    Ok(streams.get(name)?.map(|stream| stream_of(stream.value())))
}

fn stream_of((number, first, last, bytes): StreamRow) -> Stream {
    Stream { number, extent: Extent { first, last, bytes } }
}

/// The extent of a stream that is not there.
fn empty(meta: &impl redb::ReadableTable<&'static str, u64>, stream: &str) -> Result<Extent, StorageError> {
    let forgotten = meta.get(forgotten(stream).as_str())?;
    Ok(Extent::empty_after(forgotten.map_or(0, |forgotten| forgotten.value())))
}

/// The key in [`META`] that has the last sequence of the streams of a kind that
/// were forgotten.
fn forgotten(stream: &str) -> String {
    format!("forgotten {}", kind(stream))
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Why a transaction was not made.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Refused(StoreError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Table(#[from] redb::TableError),
    #[error(transparent)]
    Transaction(#[from] redb::TransactionError),
    #[error(transparent)]
    Commit(#[from] redb::CommitError),
}

impl Failed {
    /// The error of redb; otherwise what was refused.
    fn cause(self) -> Result<redb::Error, StoreError> {
        Ok(match self {
            Self::Refused(refused) => return Err(refused),
            Self::Storage(error) => error.into(),
            Self::Database(error) => error.into(),
            Self::Table(error) => error.into(),
            Self::Transaction(error) => error.into(),
            Self::Commit(error) => error.into(),
        })
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed.cause() {
            Err(refused) => refused,
            Ok(redb::Error::Io(error)) if is_full(&error) => Self::Full,
            Ok(redb::Error::Corrupted(reason)) => Self::Damaged(reason),
            Ok(error) => Self::Broken(error.to_string()),
        }
    }
}

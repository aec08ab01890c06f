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

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    fmt,
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use domain::{
    platform::{self, File, Lock, sync_directory_of},
    store::{Answer, Expect, Extent, Id, READ_BYTES, Record, Store, StoreError, Write, Written, kind},
};
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase as _, ReadableTable as _, StorageError, Table,
    TableDefinition, WriteTransaction,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::file;

/// Number, first, last and bytes of a stream.
type StreamRow = (u64, u64, u64, u64);
/// A stream's number and a sequence.
type Place = (u64, u64);
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
    watched: Mutex<HashMap<String, watch::Sender<u64>>>,
    failed: Arc<Notify>,
}

/// Where the file is. Has the lock that keeps others out.
pub(super) trait Medium: Send + Sync {
    /// Opens the file, the first time and after it failed.
    fn open(&self) -> Result<Database, OpenError>;

    /// Fails when so many bytes more do not fit beside the file.
    fn try_room(&self, bytes: u64) -> io::Result<()>;
}

struct OnDisk {
    path: PathBuf,
    _lock: Lock,
}

struct Job {
    writes: Vec<Write>,
    answer: oneshot::Sender<Result<Vec<Written>, StoreError>>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(
        "{0} is not a store of this program, or is damaged: {1}; restore it from a backup, or move it away"
    )]
    Damaged(PathBuf, String),
    #[error("{0} has the format {1}, and this version of the server knows only {FORMAT}")]
    Format(PathBuf, u64),
    #[error("the disk fails at {0}: {1}")]
    Disk(PathBuf, io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl OpenError {
    fn new(path: &Path, failed: Failed) -> Self {
        match failed.cause() {
            // What is cut short is damaged.
            Ok(redb::Error::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Self::Disk(path.to_owned(), error)
            }
            Ok(error) => Self::Damaged(path.to_owned(), error.to_string()),
            Err(refused) => Self::Damaged(path.to_owned(), refused.to_string()),
        }
    }
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
        let mut writer = Writer { shared: shared.clone(), too_large: None };
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

/// Under another name first: a file with the right name is whole.
fn create(path: &Path) -> Result<(), OpenError> {
    let new = path.with_extension("new");
    match platform::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let made = || -> Result<(), Failed> {
        let database = file::create(&Database::builder(), &new)?;
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        transaction.open_table(META)?.insert("format", FORMAT)?;
        Tables::open(&transaction)?;
        Ok(transaction.commit()?)
    };
    made().map_err(|failed| OpenError::new(&new, failed))?;
    Ok(platform::rename(&new, path)?)
}

impl Medium for OnDisk {
    fn open(&self) -> Result<Database, OpenError> {
        open(&self.path)
    }

    fn try_room(&self, bytes: u64) -> io::Result<()> {
        const PIECE: [u8; PAGES as usize] = [0; PAGES as usize];
        let path = self.path.with_extension("room");
        let tried = File::options().write(true).create(true).truncate(true).open(&path).and_then(|file| {
            (0..bytes.div_ceil(PAGES)).try_for_each(|_| (&file).write_all(&PIECE))?;
            file.sync_data()
        });
        // The next try removes it otherwise.
        let _ = platform::remove_file(&path);
        tried
    }
}

fn open(path: &Path) -> Result<Database, OpenError> {
    let damaged = |reason: String| OpenError::Damaged(path.to_owned(), reason);
    if platform::metadata(path)?.len() == 0 {
        return Err(damaged("it is empty".to_owned()));
    }
    checked(path, || file::open(Database::builder().set_cache_size(CACHE), path))
}

pub(super) fn checked(
    path: &Path,
    open: impl Fn() -> Result<Database, DatabaseError>,
) -> Result<Database, OpenError> {
    let damaged = |reason: String| OpenError::Damaged(path.to_owned(), reason);
    let checked = || -> Result<(Database, Option<u64>), Failed> {
        let mut database = open()?;
        // Every page against its checksum. What cannot be read is not mended by
        // going back to an older state: that would forget what was acknowledged.
        if !database.check_integrity()? {
            return Err(Failed::Storage(StorageError::Corrupted("a checksum is wrong".to_owned())));
        }
        let transaction = database.begin_read()?;
        let format = transaction.open_table(META)?.get("format")?.map(|format| format.value());
        Ok((database, format))
    };
    // redb panics on some kinds of damage.
    let opened = catch_unwind(AssertUnwindSafe(checked)).map_err(|panic| damaged(panic_message(&*panic)))?;
    match opened.map_err(|failed| OpenError::new(path, failed))? {
        (database, Some(FORMAT)) => Ok(database),
        (_, Some(format)) => Err(OpenError::Format(path.to_owned(), format)),
        (_, None) => Err(damaged("its format is not given".to_owned())),
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
            listed(&transaction.open_table(STREAMS)?, &prefix, &after, most, |row| Stream::of(row).extent)
        })
    }

    fn watch(&self, stream: &str) -> watch::Receiver<u64> {
        let mut watched = self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = watched.get(stream) {
            return last.subscribe();
        }
        watched.retain(|_, last| last.receiver_count() > 0);
        watched.entry(stream.to_owned()).or_insert_with(|| watch::Sender::new(0)).subscribe()
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

/// Makes the commits, one group at a time.
struct Writer {
    shared: Arc<Shared>,
    /// The least size that did not fit on the disk. A group that is not smaller is
    /// not tried before there is room: a file that failed has to be opened anew, and
    /// nobody reads meanwhile.
    too_large: Option<u64>,
}

type Results = Vec<Result<Vec<Written>, StoreError>>;

impl Writer {
    fn make(&mut self, jobs: Vec<Job>) {
        let (writes, answers): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.writes, job.answer)).unzip();
        for (answer, result) in answers.into_iter().zip(self.commit(&writes)) {
            // Nobody waits any more for some of them; they are made all the same.
            let _ = answer.send(result);
        }
    }

    fn commit(&mut self, writes: &[Vec<Write>]) -> Results {
        let size = size(writes);
        let doubtful = self.too_large.is_some_and(|too_large| size >= too_large);
        if doubtful && self.shared.medium.try_room(size).is_err_and(|error| is_full(&error)) {
            return vec![Err(StoreError::Full); writes.len()];
        }
        let Attempt { error, group } = match catch_unwind(AssertUnwindSafe(|| self.attempt(writes))) {
            Ok(Ok(Group { results, appended, .. })) => {
                self.too_large.take_if(|too_large| size >= *too_large);
                self.wake(appended);
                return results;
            }
            Ok(Err(attempt)) => attempt,
            Err(panic) => Attempt { error: StoreError::Damaged(panic_message(&*panic)), group: None },
        };
        if error == StoreError::Full {
            self.too_large = Some(size);
        }
        self.recover(&error, group, writes.len())
    }

    fn attempt(&self, writes: &[Vec<Write>]) -> Result<Group, Attempt> {
        let database = self.shared.opened().map_err(|error| Attempt { error, group: None })?;
        let Some(database) = database.as_ref() else {
            return Err(Attempt { error: closed(), group: None });
        };
        let made = || -> Result<(WriteTransaction, Group), Failed> {
            let mut transaction = database.begin_write()?;
            transaction.set_two_phase_commit(true);
            let mut tables = Tables::open(&transaction)?;
            let mut group = Group { commit: tables.count_commit()?, ..Group::default() };
            for writes in writes {
                let result = match tables.make_all(writes, &mut group.appended) {
                    Err(Failed::Refused(refused)) => Err(refused),
                    made => Ok(made?),
                };
                group.results.push(result);
            }
            tables.close()?;
            Ok((transaction, group))
        };
        let (transaction, group) = made().map_err(|error| Attempt { error: error.into(), group: None })?;
        match transaction.commit() {
            Ok(()) => Ok(group),
            Err(error) => Err(Attempt { error: Failed::from(error).into(), group: Some(group) }),
        }
    }

    /// After an error of the disk a file is not used any more, since nobody
    /// knows what is on it: it is opened anew, and says itself how far it got.
    fn recover(&self, error: &StoreError, group: Option<Group>, jobs: usize) -> Results {
        tracing::error!(%error, "the store failed; reopening its file");
        self.shared.failed.notify_one();
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        match (self.shared.open_into(&mut database), group) {
            (Ok(commits), Some(group)) if commits == group.commit => group.results,
            (Ok(_), _) => vec![Err(error.clone()); jobs],
            (Err(_), _) => vec![Err(StoreError::Broken(error.to_string())); jobs],
        }
    }

    fn wake(&self, appended: BTreeMap<String, u64>) {
        let watched = self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for (stream, last) in appended {
            if let Some(watched) = watched.get(&stream) {
                watched.send_replace(last);
            }
        }
    }
}

/// What a group takes on the disk, at most, in a few steps: each step that does not
/// fit costs an attempt.
fn size(writes: &[Vec<Write>]) -> u64 {
    let sizes = writes.iter().flatten().map(|write| {
        PAGES
            + match write {
                Write::Append { record, .. } => record.len() as u64,
                Write::Put { value, .. } => value.len() as u64,
                Write::Trim { .. } | Write::Forget { .. } | Write::Delete { .. } => 0,
            }
    });
    sizes.sum::<u64>().next_power_of_two()
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Commits that become durable together.
#[derive(Default)]
struct Group {
    /// Counts the groups in the file.
    commit: u64,
    results: Vec<Result<Vec<Written>, StoreError>>,
    /// The last sequence of each stream that has more now.
    appended: BTreeMap<String, u64>,
}

struct Attempt {
    error: StoreError,
    /// When only the end of it failed: it may have been made.
    group: Option<Group>,
}

struct Tables<'t> {
    streams: Table<'t, &'static str, StreamRow>,
    records: Table<'t, Place, RecordRow<'static>>,
    ids: Table<'t, (u64, Id), u64>,
    keys: Table<'t, &'static str, &'static [u8]>,
    meta: Table<'t, &'static str, u64>,
    /// The streams of this group: each is written back once.
    open: BTreeMap<String, Stream>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    number: u64,
    extent: Extent,
}

fn find(
    streams: &impl redb::ReadableTable<&'static str, StreamRow>,
    name: &str,
) -> Result<Option<Stream>, StorageError> {
    Ok(streams.get(name)?.map(|stream| Stream::of(stream.value())))
}

impl Stream {
    fn of((number, first, last, bytes): StreamRow) -> Self {
        Self { number, extent: Extent { first, last, bytes } }
    }
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

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, Failed> {
        Ok(Self {
            streams: transaction.open_table(STREAMS)?,
            records: transaction.open_table(RECORDS)?,
            ids: transaction.open_table(IDS)?,
            keys: transaction.open_table(KEYS)?,
            meta: transaction.open_table(META)?,
            open: BTreeMap::new(),
        })
    }

    fn count_commit(&mut self) -> Result<u64, StorageError> {
        let commit = self.meta.get("commits")?.map_or(0, |commits| commits.value()) + 1;
        self.meta.insert("commits", commit)?;
        Ok(commit)
    }

    fn close(mut self) -> Result<(), StorageError> {
        for (name, Stream { number, extent: Extent { first, last, bytes } }) in &self.open {
            self.streams.insert(name.as_str(), (*number, *first, *last, *bytes))?;
        }
        Ok(())
    }

    /// All of them, or none: every expectation is checked before anything is
    /// written, against what the commits before have left.
    fn make_all(
        &mut self,
        writes: &[Write],
        appended: &mut BTreeMap<String, u64>,
    ) -> Result<Vec<Written>, Failed> {
        for write in writes {
            self.check(write)?;
        }
        writes.iter().map(|write| self.make(write, appended)).collect()
    }

    fn check(&mut self, write: &Write) -> Result<(), Failed> {
        let (what, met) = match write {
            Write::Append { stream, expect: Some(expect), .. } | Write::Forget { stream, expect } => {
                (stream, self.extent(stream)?.last == *expect)
            }
            Write::Put { key, expect, .. } | Write::Delete { key, expect } => {
                (key, *expect == Expect::Anything || expect.is_met_by(self.value(key)?.as_ref()))
            }
            Write::Append { .. } | Write::Trim { .. } => return Ok(()),
        };
        if met { Ok(()) } else { Err(Failed::Refused(StoreError::Conflict { what: what.clone() })) }
    }

    fn make(&mut self, write: &Write, appended: &mut BTreeMap<String, u64>) -> Result<Written, Failed> {
        match write {
            Write::Append { stream, record, id, .. } => {
                let written = self.append(stream, record, *id)?;
                if let Written::Appended(sequence) = written {
                    appended.insert(stream.clone(), sequence);
                }
                return Ok(written);
            }
            Write::Trim { stream, before } => self.trim(stream, *before)?,
            Write::Forget { stream, .. } => self.forget(stream)?,
            Write::Put { key, value, .. } => drop(self.keys.insert(key.as_str(), value.as_ref())?),
            Write::Delete { key, .. } => drop(self.keys.remove(key.as_str())?),
        }
        Ok(Written::Done)
    }

    fn append(&mut self, name: &str, record: &[u8], id: Option<Id>) -> Result<Written, Failed> {
        let mut stream = match self.stream(name)? {
            Some(stream) => stream,
            None => Stream { number: self.new_number()?, extent: self.extent(name)? },
        };
        if let Some(id) = id {
            if let Some(known) = self.ids.get((stream.number, id))? {
                return Ok(Written::Known(known.value()));
            }
            self.ids.insert((stream.number, id), stream.extent.last + 1)?;
        }
        stream.extent.last += 1;
        stream.extent.bytes += record.len() as u64;
        self.records.insert((stream.number, stream.extent.last), (id, record))?;
        self.open.insert(name.to_owned(), stream);
        Ok(Written::Appended(stream.extent.last))
    }

    fn trim(&mut self, name: &str, before: u64) -> Result<(), Failed> {
        let Some(mut stream) = self.stream(name)? else { return Ok(()) };
        let before = before.min(stream.extent.last + 1);
        for sequence in stream.extent.first..before {
            let Some(removed) = self.records.remove((stream.number, sequence))? else { continue };
            let (id, record) = removed.value();
            stream.extent.bytes = stream.extent.bytes.saturating_sub(record.len() as u64);
            if let Some(id) = id {
                self.ids.remove((stream.number, id))?;
            }
        }
        stream.extent.first = stream.extent.first.max(before);
        self.open.insert(name.to_owned(), stream);
        Ok(())
    }

    fn forget(&mut self, name: &str) -> Result<(), Failed> {
        self.trim(name, u64::MAX)?;
        let last = self.extent(name)?.last.max(empty(&self.meta, name)?.last);
        self.meta.insert(forgotten(name).as_str(), last)?;
        self.open.remove(name);
        self.streams.remove(name)?;
        Ok(())
    }

    fn extent(&self, name: &str) -> Result<Extent, StorageError> {
        self.stream(name)?.map_or_else(|| empty(&self.meta, name), |stream| Ok(stream.extent))
    }

    fn stream(&self, name: &str) -> Result<Option<Stream>, StorageError> {
        self.open.get(name).map_or_else(|| find(&self.streams, name), |stream| Ok(Some(*stream)))
    }

    fn new_number(&mut self) -> Result<u64, StorageError> {
        let number = self.meta.get("streams")?.map_or(0, |streams| streams.value());
        self.meta.insert("streams", number + 1)?;
        Ok(number)
    }

    fn value(&self, key: &str) -> Result<Option<Bytes>, StorageError> {
        Ok(self.keys.get(key)?.map(|value| Bytes::copy_from_slice(value.value())))
    }
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

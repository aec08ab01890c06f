//! The one thread that writes to the file.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use domain::store::{Id, StoreError, Write, Written};
use redb::{ReadableTable as _, StorageError, Table, WriteTransaction};

use super::{
    super::rows::{Needs, Rows},
    Failed, IDS, Job, KEYS, META, PAGES, Place, RECORDS, RecordRow, STREAMS, Shared, StreamRow, closed,
    empty, find, forgotten, is_full, panic_message,
};

/// Makes the commits, one group at a time.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The least size that did not fit on the disk. A group that is not smaller is
    /// not tried before there is room: a file that failed has to be opened anew, and
    /// nobody reads meanwhile.
    too_large: Option<u64>,
}

type Results = Vec<Result<Vec<Written>, StoreError>>;

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, too_large: None }
    }

    pub(super) fn make(&mut self, jobs: Vec<Job>) {
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
            let commit = tables.count_commit()?;
            let mut rows = tables.load(&Needs::of(writes))?;
            let results = writes.iter().map(|writes| rows.commit(writes)).collect();
            tables.save(&rows)?;
            drop(tables);
            Ok((transaction, Group { commit, results, appended: rows.changed.appended }))
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
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        // With the lock held: otherwise health may still read by the old handle, and find no fault.
        self.shared.failed.notify_one();
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

/// Commits that become durable together.
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

pub(super) struct Tables<'t> {
    streams: Table<'t, &'static str, StreamRow>,
    records: Table<'t, Place, RecordRow<'static>>,
    ids: Table<'t, (u64, Id), u64>,
    keys: Table<'t, &'static str, &'static [u8]>,
    meta: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, Failed> {
        Ok(Self {
            streams: transaction.open_table(STREAMS)?,
            records: transaction.open_table(RECORDS)?,
            ids: transaction.open_table(IDS)?,
            keys: transaction.open_table(KEYS)?,
            meta: transaction.open_table(META)?,
        })
    }

    fn count_commit(&mut self) -> Result<u64, StorageError> {
        let commit = self.count("commits")? + 1;
        self.meta.insert("commits", commit)?;
        Ok(commit)
    }

    fn count(&self, of: &str) -> Result<u64, StorageError> {
        Ok(self.meta.get(of)?.map_or(0, |count| count.value()))
    }

    fn load(&self, needs: &Needs<'_>) -> Result<Rows, StorageError> {
        let mut rows = Rows { numbers: self.count("streams")?..u64::MAX, ..Rows::default() };
        for name in &needs.streams {
            rows.streams.extend(find(&self.streams, name)?.map(|stream| (name.to_string(), stream)));
        }
        for kind in needs.kinds() {
            rows.forgotten.insert(kind.to_owned(), empty(&self.meta, kind)?.last);
        }
        for (name, id) in &needs.ids {
            let Some(stream) = rows.streams.get(*name) else { continue };
            let key = (stream.number, *id);
            rows.ids.extend(self.ids.get(key)?.map(|sequence| (key, sequence.value())));
        }
        for (name, before) in &needs.trims {
            let Some(stream) = rows.streams.get(*name) else { continue };
            for entry in self.records.range((stream.number, 0)..(stream.number, *before))? {
                let (place, record) = entry?;
                let (id, bytes) = record.value();
                rows.records.insert(place.value(), (id, bytes.len() as u64));
            }
        }
        for name in &needs.keys {
            let value = self.keys.get(*name)?.map(|value| Bytes::copy_from_slice(value.value()));
            rows.keys.extend(value.map(|value| (name.to_string(), value)));
        }
        Ok(rows)
    }

    fn save(&mut self, rows: &Rows) -> Result<(), StorageError> {
        let changed = &rows.changed;
        for (place, id) in &changed.removed {
            self.records.remove(place)?;
            if let Some(id) = id {
                self.ids.remove((place.0, *id))?;
            }
        }
        for (place, (id, record)) in &changed.added {
            self.records.insert(place, (*id, record.as_ref()))?;
            if let Some(id) = id {
                self.ids.insert((place.0, *id), place.1)?;
            }
        }
        for name in &changed.streams {
            match rows.streams.get(name) {
                Some(stream) => {
                    let extent = stream.extent;
                    let row = (stream.number, extent.first, extent.last, extent.bytes);
                    self.streams.insert(name.as_str(), row)?;
                }
                None => drop(self.streams.remove(name.as_str())?),
            }
        }
        for name in &changed.keys {
            match rows.keys.get(name) {
                Some(value) => drop(self.keys.insert(name.as_str(), value.as_ref())?),
                None => drop(self.keys.remove(name.as_str())?),
            }
        }
        for kind in &changed.kinds {
            let last = rows.forgotten.get(kind).copied().unwrap_or_default();
            self.meta.insert(forgotten(kind).as_str(), last)?;
        }
        self.meta.insert("streams", rows.numbers.start)?;
        Ok(())
    }
}

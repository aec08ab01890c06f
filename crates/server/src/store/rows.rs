//! What a group of commits does, decided in memory: a store reads the rows that
//! [`Needs`] names, [`Rows::commit`] decides each commit, and the store writes what
//! has changed. Every store decides by this.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use bytes::Bytes;
use domain::store::{Expect, Extent, Id, StoreError, Write, Written, kind};

/// The number of a stream, and a sequence.
pub(super) type Place = (u64, u64);

/// The rows that a group of commits is about.
#[derive(Debug, Default)]
pub(super) struct Needs<'w> {
    pub(super) streams: BTreeSet<&'w str>,
    pub(super) keys: BTreeSet<&'w str>,
    /// The ids of new records, by stream.
    pub(super) ids: BTreeSet<(&'w str, Id)>,
    /// Of these streams the records before a sequence may go.
    pub(super) trims: BTreeMap<&'w str, u64>,
    /// As many streams may be new.
    pub(super) appends: u64,
}

impl<'w> Needs<'w> {
    pub(super) fn of(group: &'w [Vec<Write>]) -> Self {
        let mut needs = Self::default();
        for write in group.iter().flatten() {
            match write {
                Write::Append { stream, id, .. } => {
                    needs.streams.insert(stream);
                    needs.ids.extend(id.map(|id| (stream.as_str(), id)));
                    needs.appends += 1;
                }
                Write::Trim { stream, before } => needs.trim(stream, *before),
                Write::Forget { stream, .. } => needs.trim(stream, u64::MAX),
                Write::Put { key, .. } | Write::Delete { key, .. } => drop(needs.keys.insert(key)),
            }
        }
        needs
    }

    fn trim(&mut self, stream: &'w str, before: u64) {
        self.streams.insert(stream);
        let most = self.trims.entry(stream).or_default();
        *most = before.max(*most);
    }

    pub(super) fn kinds(&self) -> BTreeSet<&'w str> {
        self.streams.iter().map(|stream| kind(stream)).collect()
    }
}

/// A stream as the store has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub(super) number: u64,
    pub(super) extent: Extent,
}

/// The rows that were needed, and what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) streams: HashMap<String, Stream>,
    pub(super) keys: HashMap<String, Bytes>,
    /// By the number of the stream.
    pub(super) ids: HashMap<(u64, Id), u64>,
    /// The last sequence of the forgotten streams of a kind.
    pub(super) forgotten: HashMap<String, u64>,
    /// Ids and sizes of the records that may go.
    pub(super) records: BTreeMap<Place, (Option<Id>, u64)>,
    /// For new streams.
    pub(super) numbers: Range<u64>,
    pub(super) changed: Changed,
}

/// What the store has to write.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Names of streams; one that is in [`Rows::streams`] no more is gone.
    pub(super) streams: BTreeSet<String>,
    /// Numbers of streams that are gone.
    pub(super) gone: Vec<u64>,
    /// Names of keys; one that is in [`Rows::keys`] no more is gone.
    pub(super) keys: BTreeSet<String>,
    pub(super) kinds: BTreeSet<String>,
    pub(super) added: BTreeMap<Place, (Option<Id>, Bytes)>,
    pub(super) removed: Vec<(Place, Option<Id>)>,
    /// The last sequence of each stream that has more now.
    pub(super) appended: BTreeMap<String, u64>,
}

impl Rows {
    /// Makes all of the writes, or none: every expectation is checked before
    /// anything is changed, against what the commits before have left.
    pub(super) fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, StoreError> {
        for write in writes {
            self.check(write)?;
        }
        Ok(writes.iter().map(|write| self.make(write)).collect())
    }

    fn check(&self, write: &Write) -> Result<(), StoreError> {
        let (what, met) = match write {
            Write::Append { stream, expect: Some(expect), .. } | Write::Forget { stream, expect } => {
                (stream, self.extent(stream).last == *expect)
            }
            Write::Put { key, expect, .. } | Write::Delete { key, expect } => {
                (key, *expect == Expect::Anything || expect.is_met_by(self.keys.get(key)))
            }
            Write::Append { .. } | Write::Trim { .. } => return Ok(()),
        };
        if met { Ok(()) } else { Err(StoreError::Conflict { what: what.clone() }) }
    }

    fn make(&mut self, write: &Write) -> Written {
        match write {
            Write::Append { stream, record, id, .. } => return self.append(stream, record, *id),
            Write::Trim { stream, before } => self.trim(stream, *before),
            Write::Forget { stream, .. } => self.forget(stream),
            Write::Put { key, value, .. } => {
                self.keys.insert(key.clone(), value.clone());
                self.changed.keys.insert(key.clone());
            }
            Write::Delete { key, .. } => {
                self.keys.remove(key);
                self.changed.keys.insert(key.clone());
            }
        }
        Written::Done
    }

    fn append(&mut self, name: &str, record: &Bytes, id: Option<Id>) -> Written {
        let found = self.streams.get(name).copied();
        let mut stream = found.unwrap_or_else(|| {
            let number = self.numbers.start;
            self.numbers.start += 1;
            Stream { number, extent: self.extent(name) }
        });
        let sequence = stream.extent.last + 1;
        if let Some(id) = id {
            if let Some(known) = self.ids.get(&(stream.number, id)) {
                return Written::Known(*known);
            }
            self.ids.insert((stream.number, id), sequence);
        }
        stream.extent.last = sequence;
        stream.extent.bytes += record.len() as u64;
        self.streams.insert(name.to_owned(), stream);
        self.changed.added.insert((stream.number, sequence), (id, record.clone()));
        self.changed.streams.insert(name.to_owned());
        self.changed.appended.insert(name.to_owned(), sequence);
        Written::Appended(sequence)
    }

    fn trim(&mut self, name: &str, before: u64) {
        let Some(stream) = self.streams.get_mut(name) else { return };
        let Stream { number, extent } = stream;
        let before = before.min(extent.last + 1).max(extent.first);
        let range = (*number, extent.first)..(*number, before);
        for (place, (id, bytes)) in self.records.extract_if(range.clone(), |_, _| true) {
            extent.bytes = extent.bytes.saturating_sub(bytes);
            id.map(|id| self.ids.remove(&(*number, id)));
            self.changed.removed.push((place, id));
        }
        for (_, (id, record)) in self.changed.added.extract_if(range, |_, _| true) {
            extent.bytes = extent.bytes.saturating_sub(record.len() as u64);
            id.map(|id| self.ids.remove(&(*number, id)));
        }
        extent.first = before;
        self.changed.streams.insert(name.to_owned());
    }

    fn forget(&mut self, name: &str) {
        self.trim(name, u64::MAX);
        let last = self.extent(name).last;
        let forgotten = self.forgotten.entry(kind(name).to_owned()).or_default();
        *forgotten = last.max(*forgotten);
        self.changed.kinds.insert(kind(name).to_owned());
        self.changed.gone.extend(self.streams.remove(name).map(|stream| stream.number));
        self.changed.streams.insert(name.to_owned());
    }

    fn extent(&self, name: &str) -> Extent {
        let forgotten = || self.forgotten.get(kind(name)).copied().unwrap_or_default();
        self.streams.get(name).map_or_else(|| Extent::empty_after(forgotten()), |stream| stream.extent)
    }
}

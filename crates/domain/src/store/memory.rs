//! A store that lives as long as the process.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Answer, Extent, Id, READ_BYTES, Record, Store, StoreError, Watched, Write, Written, follow, kind,
};

/// Streams and keys in the memory of this process.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    streams: BTreeMap<String, Stream>,
    /// By kind of stream, the last sequence of those that were forgotten.
    forgotten: HashMap<String, u64>,
    /// Those that wait for streams, which need not be there.
    watched: Watched,
    keys: BTreeMap<String, Bytes>,
}

#[derive(Debug)]
struct Stream {
    extent: Extent,
    records: VecDeque<(Option<Id>, Bytes)>,
    ids: HashMap<Id, u64>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn commit(&self, writes: Vec<Write>) -> Answer<Vec<Written>> {
        let mut state = self.lock();
        let done = state.check(&writes).map(|()| writes.into_iter().map(|write| state.make(write)).collect());
        Box::pin(std::future::ready(done))
    }

    fn read(&self, stream: &str, from: u64, most: usize) -> Answer<Vec<Record>> {
        let state = self.lock();
        let read = match state.streams.get(stream) {
            Some(stream) => stream.read(from, most),
            None => state.extent(stream).reaches(from).map(|()| Vec::new()),
        };
        Box::pin(std::future::ready(read))
    }

    fn extent(&self, stream: &str) -> Answer<Extent> {
        let extent = self.lock().extent(stream);
        Box::pin(std::future::ready(Ok(extent)))
    }

    fn streams(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Extent)>> {
        let state = self.lock();
        let listed = listed(&state.streams, prefix, after, most);
        let listed = listed.map(|(name, stream)| (name.clone(), stream.extent)).collect();
        Box::pin(std::future::ready(Ok(listed)))
    }

    fn watch(&self, stream: &str) -> watch::Receiver<u64> {
        follow(&mut self.lock().watched, stream)
    }

    fn get(&self, key: &str) -> Answer<Option<Bytes>> {
        let value = self.lock().keys.get(key).cloned();
        Box::pin(std::future::ready(Ok(value)))
    }

    fn list(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Bytes)>> {
        let state = self.lock();
        let listed = listed(&state.keys, prefix, after, most);
        let listed = listed.map(|(key, value)| (key.clone(), value.clone())).collect();
        Box::pin(std::future::ready(Ok(listed)))
    }
}

/// Those whose names have a prefix and come after another one.
fn listed<'a, T>(
    all: &'a BTreeMap<String, T>,
    prefix: &'a str,
    after: &'a str,
    most: usize,
) -> impl Iterator<Item = (&'a String, &'a T)> {
    let listed = all.range(prefix.to_owned()..).take_while(move |(name, _)| name.starts_with(prefix));
    listed.filter(move |(name, _)| name.as_str() > after).take(most)
}

impl State {
    fn extent(&self, stream: &str) -> Extent {
        let forgotten = || self.forgotten.get(kind(stream)).copied().unwrap_or_default();
        self.streams.get(stream).map_or_else(|| Extent::empty_after(forgotten()), |stream| stream.extent)
    }

    /// Every expectation is of the state before the commit.
    fn check(&self, writes: &[Write]) -> Result<(), StoreError> {
        for write in writes {
            let (what, met) = match write {
                Write::Append { stream, expect: Some(expect), .. } | Write::Forget { stream, expect } => {
                    (stream, self.extent(stream).last == *expect)
                }
                Write::Put { key, expect, .. } | Write::Delete { key, expect } => {
                    (key, expect.is_met_by(self.keys.get(key)))
                }
                Write::Append { .. } | Write::Trim { .. } => continue,
            };
            if !met {
                return Err(StoreError::Conflict { what: what.clone() });
            }
        }
        Ok(())
    }

    fn make(&mut self, write: Write) -> Written {
        match write {
            Write::Append { stream, record, id, .. } => {
                let extent = self.extent(&stream);
                let (records, ids) = (VecDeque::new(), HashMap::new());
                let appended = self.streams.entry(stream.clone());
                let written = appended.or_insert(Stream { extent, records, ids }).append(id, record);
                if let (Written::Appended(last), Some(watched)) = (written, self.watched.get(&stream)) {
                    watched.send_replace(last);
                }
                return written;
            }
            Write::Trim { stream, before } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.trim(before);
                }
            }
            Write::Forget { stream, .. } => {
                let last = self.extent(&stream).last;
                self.streams.remove(&stream);
                let forgotten = self.forgotten.entry(kind(&stream).to_owned()).or_default();
                *forgotten = last.max(*forgotten);
            }
            Write::Put { key, value, .. } => drop(self.keys.insert(key, value)),
            Write::Delete { key, .. } => drop(self.keys.remove(&key)),
        }
        Written::Done
    }
}

impl Stream {
    fn append(&mut self, id: Option<Id>, record: Bytes) -> Written {
        if let Some(known) = id.and_then(|id| self.ids.get(&id)) {
            return Written::Known(*known);
        }
        self.extent.last += 1;
        self.extent.bytes += record.len() as u64;
        self.ids.extend(id.map(|id| (id, self.extent.last)));
        self.records.push_back((id, record));
        Written::Appended(self.extent.last)
    }

    fn trim(&mut self, before: u64) {
        while self.extent.first < before
            && let Some((id, record)) = self.records.pop_front()
        {
            self.extent.first += 1;
            self.extent.bytes -= record.len() as u64;
            id.map(|id| self.ids.remove(&id));
        }
    }

    fn read(&self, from: u64, most: usize) -> Result<Vec<Record>, StoreError> {
        self.extent.reaches(from)?;
        let skip = from - self.extent.first;
        let mut bytes = 0;
        let records = (from..).zip(self.records.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)));
        let records = records.take(most).take_while(|(sequence, (_, record))| {
            bytes += record.len();
            bytes <= READ_BYTES || *sequence == from
        });
        Ok(records.map(|(sequence, (_, bytes))| Record { sequence, bytes: bytes.clone() }).collect())
    }
}

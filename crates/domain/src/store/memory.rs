//! A store that lives as long as the process.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Answer, Extent, Id, READ_BYTES, Record, Store, StoreError, Write, Written};

/// Streams and keys in the memory of this process.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<String, Stream>,
    keys: BTreeMap<String, Bytes>,
}

#[derive(Debug)]
struct Stream {
    extent: Extent,
    records: VecDeque<(Option<Id>, Bytes)>,
    ids: HashMap<Id, u64>,
    last: watch::Sender<u64>,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            extent: Extent::EMPTY,
            records: VecDeque::new(),
            ids: HashMap::new(),
            last: watch::Sender::new(0),
        }
    }
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
        let mut state = self.lock();
        let read = state.streams.entry(stream.to_owned()).or_default().read(from, most);
        Box::pin(std::future::ready(read))
    }

    fn extent(&self, stream: &str) -> Answer<Extent> {
        let extent = self.lock().streams.get(stream).map_or(Extent::EMPTY, |stream| stream.extent);
        Box::pin(std::future::ready(Ok(extent)))
    }

    fn watch(&self, stream: &str) -> watch::Receiver<u64> {
        self.lock().streams.entry(stream.to_owned()).or_default().last.subscribe()
    }

    fn get(&self, key: &str) -> Answer<Option<Bytes>> {
        let value = self.lock().keys.get(key).cloned();
        Box::pin(std::future::ready(Ok(value)))
    }

    fn list(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Bytes)>> {
        let state = self.lock();
        let listed = state.keys.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let listed = listed.filter(|(key, _)| key.as_str() > after).take(most);
        let listed = listed.map(|(key, value)| (key.clone(), value.clone())).collect();
        Box::pin(std::future::ready(Ok(listed)))
    }
}

impl State {
    /// Every expectation is of the state before the commit.
    fn check(&self, writes: &[Write]) -> Result<(), StoreError> {
        for write in writes {
            let (what, met) = match write {
                Write::Append { stream, expect: Some(expect), .. } => {
                    (stream, self.streams.get(stream).map_or(0, |stream| stream.extent.last) == *expect)
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
                return self.streams.entry(stream).or_default().append(id, record);
            }
            Write::Trim { stream, before } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.trim(before);
                }
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
        self.last.send_replace(self.extent.last);
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
        let first = self.extent.first;
        let skip = from.checked_sub(first).ok_or(StoreError::Trimmed { from, first })?;
        let mut bytes = 0;
        let records = (from..).zip(self.records.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)));
        let records = records.take(most).take_while(|(sequence, (_, record))| {
            bytes += record.len();
            bytes <= READ_BYTES || *sequence == from
        });
        Ok(records.map(|(sequence, (_, bytes))| Record { sequence, bytes: bytes.clone() }).collect())
    }
}

//! Reads a stream by cursor, from any sequence that is still kept, and continues as new
//! records arrive.
//!
//! A reader never skips records silently. If its next record is no longer kept, the
//! reader gets the first sequence that is.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use super::store::{Answer, Extent, Record, Store, StoreError, Write};
use crate::platform;

/// How many records a reader reads at a time, and so has in memory.
const AHEAD: usize = 1024;
/// How many records are removed in one commit, so that other commits get their turn.
const PIECE: u64 = 1024;
/// How many streams are listed at a time.
const PAGE: usize = 1024;

/// A position in a stream. Each reader has its own, so that no reader waits for
/// another; the stream itself is the queue.
pub(crate) struct Cursor {
    store: Arc<dyn Store>,
    stream: String,
    /// The sequence of the next record.
    next: u64,
    more: watch::Receiver<u64>,
    read: VecDeque<Record>,
    /// Kept when the future that waits for it is dropped.
    reading: Option<Answer<Vec<Record>>>,
}

impl Cursor {
    /// `next` is the sequence of the first record to return.
    pub(crate) fn new(store: Arc<dyn Store>, stream: String, next: u64) -> Self {
        let more = store.watch(&stream);
        Self { store, stream, next, more, read: VecDeque::new(), reading: None }
    }

    /// The sequence of the next record.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    /// The next record, if it has been read already.
    pub(crate) fn at_hand(&mut self) -> Option<Record> {
        let record = self.read.pop_front()?;
        self.next = record.sequence + 1;
        Some(record)
    }

    /// Waits for the next record. Cancel safe.
    ///
    /// Fails with [`StoreError::Trimmed`] when the record is no longer kept.
    pub(crate) async fn next(&mut self) -> Result<Record, StoreError> {
        loop {
            if let Some(record) = self.at_hand() {
                return Ok(record);
            }
            if self.reading.is_none() {
                // Marked as seen before the stream is read, so that a record appended
                // after the read wakes this cursor again.
                self.more.borrow_and_update();
            }
            let reading = self.reading.get_or_insert_with(|| self.store.read(&self.stream, self.next, AHEAD));
            let read = reading.await;
            self.reading = None;
            self.read = read?.into();
            if self.read.is_empty() && self.more.changed().await.is_err() {
                return Err(StoreError::Broken("it is gone".to_owned()));
            }
        }
    }
}

/// How much of a history is kept. Both bounds apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Older records are removed.
    pub age: Duration,
    /// The most bytes of all records of a history together.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(24 * 3600), bytes: 1 << 30 }
    }
}

impl Retention {
    /// How often to look for records that are too old.
    pub fn interval(self) -> Duration {
        (self.age / 24).clamp(Duration::from_secs(1), Duration::from_secs(3600))
    }

    /// Removes records that are too old, or that exceed the size. `time` returns when a
    /// record was written.
    pub(crate) async fn apply(
        self,
        store: &dyn Store,
        stream: &str,
        time: impl Fn(&[u8]) -> Result<SystemTime, StoreError>,
    ) -> Result<(), StoreError> {
        let oldest = platform::now().checked_sub(self.age).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut old = false;
        loop {
            let extent = store.extent(stream).await?;
            let mut over = extent.bytes.saturating_sub(self.bytes);
            let mut before = extent.first;
            // Usually the first record is young enough, and the others need not be
            // read.
            let most = if over > 0 || old { PIECE as usize } else { 1 };
            for record in store.read(stream, extent.first, most).await? {
                if over == 0 && time(&record.bytes)? >= oldest {
                    break;
                }
                over = over.saturating_sub(record.bytes.len() as u64);
                before = record.sequence + 1;
            }
            if before == extent.first {
                return Ok(());
            }
            old = true;
            store.commit(vec![Write::Trim { stream: stream.to_owned(), before }]).await?;
        }
    }
}

/// Removes the records of a stream up to `through`.
pub(crate) async fn clear(store: &dyn Store, stream: &str, through: u64) -> Result<(), StoreError> {
    loop {
        let Extent { first, .. } = store.extent(stream).await?;
        if first > through {
            return Ok(());
        }
        let before = (first + PIECE).min(through + 1);
        store.commit(vec![Write::Trim { stream: stream.to_owned(), before }]).await?;
    }
}

/// The streams of a kind, and the extent of each.
pub(crate) async fn streams(store: &dyn Store, kind: &str) -> Result<Vec<(String, Extent)>, StoreError> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map_or("", |(name, _): &(String, _)| name).to_owned();
        let page = store.streams(kind, &after, PAGE).await?;
        let more = page.len() == PAGE;
        all.extend(page);
        if !more {
            return Ok(all);
        }
    }
}

/// Whether there are as many streams of a kind as are allowed.
pub(crate) async fn is_full(store: &dyn Store, kind: &str, most: usize) -> Result<bool, StoreError> {
    Ok(store.streams(kind, "", most).await?.len() == most)
}

/// The number and size of things that are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many there are.
    pub count: u64,
    /// Their size together, without that of the index.
    pub bytes: u64,
}

impl Usage {
    /// Counts the streams of a kind.
    pub(crate) async fn of(store: &dyn Store, kind: &str) -> Result<Self, StoreError> {
        let streams = streams(store, kind).await?;
        let bytes = streams.iter().map(|(_, extent)| extent.bytes).sum();
        Ok(Self { count: streams.len() as u64, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Memory, Write};

    #[tokio::test]
    async fn a_cursor_gives_everything_once_and_waits_for_more() {
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let append = |n: u64| Write::Append {
            stream: "a".into(),
            record: n.to_string().into(),
            id: None,
            expect: Some(n - 1),
        };
        let mut cursor = Cursor::new(store.clone(), "a".into(), 1);
        let appending = tokio::spawn({
            let store = store.clone();
            async move {
                for n in 1..=2_000 {
                    store.commit(vec![append(n)]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        for n in 1..=2_000 {
            // A reader that is cancelled again and again loses nothing.
            while n % 3 == 0
                && tokio::time::timeout(std::time::Duration::ZERO, std::future::pending::<()>()).await.is_ok()
            {
            }
            let record = cursor.next().await.unwrap();
            assert_eq!((record.sequence, record.bytes), (n, n.to_string().into()));
        }
        appending.await.unwrap();
        assert_eq!(cursor.position(), 2_001);
        store.commit(vec![Write::Trim { stream: "a".into(), before: 1_000 }]).await.unwrap();
        let mut late = Cursor::new(store, "a".into(), 999);
        assert_eq!(late.next().await, Err(StoreError::Trimmed { from: 999, first: 1_000 }));
    }
}

//! Reading a stream by cursor, from any sequence that is left and on for as
//! long as there is more to come.
//!
//! A reader never passes what it has not seen: when that is no longer kept, the
//! reader gets the first sequence that is.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use super::store::{Answer, Record, Store, StoreError, Write};
use crate::platform;

/// Records that are read at a time: what a reader has in memory.
const AHEAD: usize = 1024;

/// A place in a stream. Each reader has its own, so that none waits for
/// another, and the stream itself is the queue in between.
pub(crate) struct Cursor {
    store: Arc<dyn Store>,
    stream: String,
    /// The next sequence to give.
    next: u64,
    more: watch::Receiver<u64>,
    read: VecDeque<Record>,
    /// Kept when the future that waits for it is dropped.
    reading: Option<Answer<Vec<Record>>>,
}

impl Cursor {
    /// `next` is the first sequence to give.
    pub(crate) fn new(store: Arc<dyn Store>, stream: String, next: u64) -> Self {
        let more = store.watch(&stream);
        Self { store, stream, next, more, read: VecDeque::new(), reading: None }
    }

    /// The next sequence to give.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    /// The next record, if it has been read already.
    pub(crate) fn at_hand(&mut self) -> Option<Record> {
        let record = self.read.pop_front()?;
        self.next = record.sequence + 1;
        Some(record)
    }

    /// The next record, once it is there. Cancelling loses nothing.
    ///
    /// [`StoreError::Trimmed`] when it is gone.
    pub(crate) async fn next(&mut self) -> Result<Record, StoreError> {
        loop {
            if let Some(record) = self.at_hand() {
                return Ok(record);
            }
            if self.reading.is_none() {
                // Marked as seen before the stream is read: what comes after
                // the reading wakes this cursor again.
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

/// How much of a history is kept: both bounds hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// What is older is forgotten.
    pub age: Duration,
    /// Of all records of a history together.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(24 * 3600), bytes: 1 << 30 }
    }
}

impl Retention {
    /// Forgets what is too old or too much, a piece at a time so that other
    /// commits get their turn. `time` tells when a record was written.
    pub(crate) async fn apply(
        self,
        store: &dyn Store,
        stream: &str,
        time: impl Fn(&[u8]) -> Result<SystemTime, StoreError>,
    ) -> Result<(), StoreError> {
        const PIECE: usize = 1024;
        let oldest = platform::now().checked_sub(self.age).unwrap_or(SystemTime::UNIX_EPOCH);
        loop {
            let extent = store.extent(stream).await?;
            let mut over = extent.bytes.saturating_sub(self.bytes);
            let mut before = extent.first;
            for record in store.read(stream, extent.first, PIECE).await? {
                if over == 0 && time(&record.bytes)? >= oldest {
                    break;
                }
                over = over.saturating_sub(record.bytes.len() as u64);
                before = record.sequence + 1;
            }
            if before == extent.first {
                return Ok(());
            }
            store.commit(vec![Write::Trim { stream: stream.to_owned(), before }]).await?;
        }
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
            // A reader that gives up again and again loses nothing.
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

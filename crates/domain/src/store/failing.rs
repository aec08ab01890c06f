//! A store that fails on demand, for tests of code that has to cope with that.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};

use super::{Answer, Extent, Record, Store, StoreError, Write, Written};

#[derive(Debug)]
pub(crate) struct Failing {
    store: Arc<dyn Store>,
    how: watch::Sender<How>,
    /// Counts the commits that were refused or are held.
    met: Semaphore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Works,
    /// Answers arrive later than the commits and reads take effect.
    Slow,
    Full,
    /// Commits with a trim fail as in a full store; others take effect.
    FullForTrims,
    /// Commits take effect, but their answers are lost.
    BrokenButMade,
    /// Commits and reads have no effect and fail.
    Broken,
    /// Commits wait until this mode ends.
    Held,
}

impl Failing {
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, how: watch::Sender::new(How::Works), met: Semaphore::new(0) })
    }

    pub(crate) fn now(&self, how: How) {
        self.how.send_replace(how);
    }

    /// Waits until this many more commits were refused or are held.
    pub(crate) async fn met(&self, commits: u32) {
        self.met.acquire_many(commits).await.unwrap().forget();
    }

    fn reads<T: Send + 'static>(&self, read: impl FnOnce(&dyn Store) -> Answer<T>) -> Answer<T> {
        match *self.how.borrow() {
            How::Broken => answer(Err(broken())),
            How::Slow => later(read(&*self.store)),
            _ => read(&*self.store),
        }
    }
}

fn answer<T: Send + 'static>(answer: Result<T, StoreError>) -> Answer<T> {
    Box::pin(std::future::ready(answer))
}

fn later<T: Send + 'static>(answer: Answer<T>) -> Answer<T> {
    Box::pin(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        answer.await
    })
}

fn broken() -> StoreError {
    StoreError::Broken("no answer".to_owned())
}

impl Store for Failing {
    fn commit(&self, writes: Vec<Write>) -> Answer<Vec<Written>> {
        let how = *self.how.borrow();
        let trims = writes.iter().any(|write| matches!(write, Write::Trim { .. }));
        if how == How::Works || how == How::FullForTrims && !trims {
            return self.store.commit(writes);
        }
        if how == How::Slow {
            return later(self.store.commit(writes));
        }
        self.met.add_permits(1);
        match how {
            How::Held => {
                let (store, mut how) = (self.store.clone(), self.how.subscribe());
                Box::pin(async move {
                    how.wait_for(|how| *how != How::Held).await.unwrap();
                    store.commit(writes).await
                })
            }
            How::BrokenButMade => {
                let made = self.store.commit(writes);
                Box::pin(async { Err(made.await.err().unwrap_or(broken())) })
            }
            How::Broken => answer(Err(broken())),
            How::Works | How::Slow | How::Full | How::FullForTrims => answer(Err(StoreError::Full)),
        }
    }

    fn read(&self, stream: &str, from: u64, most: usize) -> Answer<Vec<Record>> {
        self.reads(|store| store.read(stream, from, most))
    }

    fn extent(&self, stream: &str) -> Answer<Extent> {
        self.reads(|store| store.extent(stream))
    }

    fn streams(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Extent)>> {
        self.reads(|store| store.streams(prefix, after, most))
    }

    fn watch(&self, stream: &str) -> watch::Receiver<u64> {
        self.store.watch(stream)
    }

    fn get(&self, key: &str) -> Answer<Option<Bytes>> {
        self.reads(|store| store.get(key))
    }

    fn list(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Bytes)>> {
        self.reads(|store| store.list(prefix, after, most))
    }
}

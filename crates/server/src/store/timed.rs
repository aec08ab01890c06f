//! A store whose commits are timed, as whoever waits for them sees it.

use std::time::Instant;

use bytes::Bytes;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::watch;

use crate::domain::store::{Answer, Extent, Record, Store, Write, Written};

#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) store: std::sync::Arc<dyn Store>,
    pub(crate) commits: Histogram,
}

impl Store for Timed {
    fn commit(&self, writes: Vec<Write>) -> Answer<Vec<Written>> {
        let (begun, commits) = (Instant::now(), self.commits.clone());
        let done = self.store.commit(writes);
        Box::pin(async move {
            let done = done.await;
            commits.observe(begun.elapsed().as_secs_f64());
            done
        })
    }

    fn read(&self, stream: &str, from: u64, most: usize) -> Answer<Vec<Record>> {
        self.store.read(stream, from, most)
    }

    fn extent(&self, stream: &str) -> Answer<Extent> {
        self.store.extent(stream)
    }

    fn watch(&self, stream: &str) -> watch::Receiver<u64> {
        self.store.watch(stream)
    }

    fn get(&self, key: &str) -> Answer<Option<Bytes>> {
        self.store.get(key)
    }

    fn list(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Bytes)>> {
        self.store.list(prefix, after, most)
    }
}

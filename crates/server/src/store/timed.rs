//! A store that measures how long its callers wait for commits, and counts those that fail.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use stack::prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::sync::watch;

use domain::store::{Answer, Extent, Record, Store, StoreError, Write, Written};

#[derive(Debug)]
pub(crate) struct Timed {
    store: Arc<dyn Store>,
    /// From the call until the commit is durable.
    commits: Histogram,
    /// By the label `reason`.
    failed: Family<[(&'static str, &'static str); 1], Counter>,
}

/// In seconds: from a commit in memory to one that waits for a busy disk.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 60.0, 600.0];

impl Timed {
    pub(crate) fn new(store: Arc<dyn Store>, metrics: &mut Registry) -> Self {
        let commits = Histogram::new(BUCKETS);
        metrics.register_with_unit("store_commit", "How long commits took", Unit::Seconds, commits.clone());
        let failed = Family::<[_; 1], Counter>::default();
        // There from the start: Prometheus sees no increase in a figure that is new.
        for reason in ["full", "broken", "damaged"] {
            drop(failed.get_or_create(&[("reason", reason)]));
        }
        metrics.register("store_failed_commits", "Commits that failed, by reason", failed.clone());
        Self { store, commits, failed }
    }
}

impl Store for Timed {
    fn commit(&self, writes: Vec<Write>) -> Answer<Vec<Written>> {
        let (begun, commits, failed) = (Instant::now(), self.commits.clone(), self.failed.clone());
        let done = self.store.commit(writes);
        Box::pin(async move {
            let done = done.await;
            commits.observe(begun.elapsed().as_secs_f64());
            let reason = match &done {
                Err(StoreError::Full) => Some("full"),
                Err(StoreError::Broken(_)) => Some("broken"),
                Err(StoreError::Damaged(_)) => Some("damaged"),
                Ok(_) | Err(StoreError::Conflict { .. } | StoreError::Trimmed { .. }) => None,
            };
            if let Some(reason) = reason {
                failed.get_or_create(&[("reason", reason)]).inc();
            }
            done
        })
    }

    fn read(&self, stream: &str, from: u64, most: usize) -> Answer<Vec<Record>> {
        self.store.read(stream, from, most)
    }

    fn extent(&self, stream: &str) -> Answer<Extent> {
        self.store.extent(stream)
    }

    fn streams(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Extent)>> {
        self.store.streams(prefix, after, most)
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

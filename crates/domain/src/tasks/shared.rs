//! Tasks where servers share the store: whose they are, and what becomes of those of
//! the others.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::watch, time::sleep};
use uuid::Uuid;

use super::{Live, STORE_PAUSE, Shared, Task, put, task_key};
use crate::{
    feed::Cursor,
    lock,
    store::{Expect, StoreError, Write, decode, encode},
};

const CLAIMS: &str = "claim/";
/// Has every new state of every task, and how far the running ones are.
const NEWS: &str = "tasks";
/// How many news are kept, for servers that are slow to read them.
const KEPT_NEWS: u64 = 4096;
/// After so many news old ones are forgotten.
const NEWS_PER_TRIM: u64 = 256;
/// How often other servers hear how far a task is.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

fn claim_key(id: Uuid) -> String {
    format!("{CLAIMS}{id}")
}

impl Shared {
    /// The claim of a task that is made here.
    pub(super) fn new_claim(&self, task: &Task) -> Option<Write> {
        let claim = || put(claim_key(task.id), encode(&self.peers.me()), Expect::Nothing);
        self.peers.are_there().then(claim)
    }

    /// What the other servers have to know of a new state.
    pub(super) fn news(&self, task: &Task) -> Vec<Write> {
        if !self.peers.are_there() {
            return Vec::new();
        }
        let news = Write::Append { stream: NEWS.to_owned(), record: encode(task), id: None, expect: None };
        let over = Write::Delete { key: claim_key(task.id), expect: Expect::Anything };
        if task.state.is_end() { vec![news, over] } else { vec![news] }
    }

    /// Whether a task that has not ended is this server's, now if not before.
    pub(super) async fn claim(&self, id: Uuid, task: &Bytes) -> Result<bool, StoreError> {
        if !self.peers.are_there() {
            return Ok(true);
        }
        let key = claim_key(id);
        let claim = self.store.get(&key).await?;
        let expect = match claim {
            None => Expect::Nothing,
            Some(claim) => match decode::<u64>(&key, &claim)? {
                owner if owner == self.peers.me() => return Ok(true),
                owner if self.peers.is_dead(owner) => Expect::Value(claim),
                _ => return Ok(false),
            },
        };
        // One that has ended is not claimed any more.
        let same = put(task_key(id), task.clone(), Expect::Value(task.clone()));
        match self.store.commit(vec![put(key, encode(&self.peers.me()), expect), same]).await {
            // Another server was faster.
            Err(StoreError::Conflict { .. }) => Ok(false),
            claimed => claimed.map(|_| true),
        }
    }

    /// Takes the tasks of dead servers.
    async fn inherit(self: &Arc<Self>) -> Result<(), StoreError> {
        const PAGE: usize = 256;
        let mut after = String::new();
        loop {
            let page = self.store.list(CLAIMS, &after, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after.clone_from(last);
            for (key, owner) in page {
                let id = key.strip_prefix(CLAIMS).and_then(|id| Uuid::try_parse(id).ok());
                let id = id.ok_or_else(|| StoreError::Damaged(format!("{key} is no claim")))?;
                if self.peers.is_dead(decode(&key, &owner)?)
                    && let Some(bytes) = self.store.get(&task_key(id)).await?
                    && self.claim(id, &bytes).await?
                {
                    self.adopt(decode(&key, &bytes)?, bytes);
                }
            }
        }
    }

    /// A task of another server, from now on.
    pub(super) async fn follow(&self, task: Task) -> Result<Option<watch::Receiver<Task>>, StoreError> {
        let id = task.id;
        let receiver = {
            let mut elsewhere = lock(&self.elsewhere);
            elsewhere.retain(|_, task| task.receiver_count() > 0);
            elsewhere.entry(id).or_insert_with(|| watch::Sender::new(task)).subscribe()
        };
        // Looked at once more: what it came to before it was followed was not heard.
        match self.stored(id).await? {
            Some(task) if task.state.is_end() => self.heard(task),
            Some(_) => {}
            None => return Ok(None),
        }
        Ok(Some(receiver))
    }

    /// How far a task is, here or at another server.
    pub(super) fn progress(&self, id: Uuid) -> Option<(u64, u64)> {
        let here = lock(&self.live).get(&id).map(|live| live.task.borrow().progress());
        here.or_else(|| lock(&self.elsewhere).get(&id).map(|task| task.borrow().progress()))
    }

    fn heard(&self, task: Task) {
        if task.state.is_end() {
            // It may have been cancelled elsewhere.
            self.publish(&task);
        }
        let mut elsewhere = lock(&self.elsewhere);
        let Some(watched) = elsewhere.get(&task.id) else { return };
        let (id, ended) = (task.id, task.state.is_end());
        watched.send_replace(task);
        if ended {
            elsewhere.remove(&id);
        }
    }

    /// Begins to follow what becomes of tasks, and who dies.
    pub(super) async fn listen(self: &Arc<Self>) -> Result<(), StoreError> {
        if !self.peers.are_there() {
            return Ok(());
        }
        let next = self.store.extent(NEWS).await?.last + 1;
        let (heirs, mut peers) = (self.clone(), self.peers.clone());
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(async move {
            loop {
                peers.changed().await;
                while let Err(error) = heirs.inherit().await {
                    tracing::error!("the tasks of dead servers cannot be taken: {error}");
                    sleep(STORE_PAUSE).await;
                }
            }
        }));
        let shared = self.clone();
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(async move { shared.hear(next).await }));
        Ok(())
    }

    async fn hear(&self, next: u64) {
        let mut cursor = Cursor::new(self.store.clone(), NEWS.to_owned(), next);
        loop {
            let heard = match cursor.next().await {
                Ok(news) if news.sequence % NEWS_PER_TRIM == 0 => {
                    let trim = Write::Trim {
                        stream: NEWS.to_owned(),
                        before: news.sequence.saturating_sub(KEPT_NEWS),
                    };
                    let trimmed = self.store.commit(vec![trim]).await;
                    trimmed.and_then(|_| decode(NEWS, &news.bytes)).map(|task| self.heard(task))
                }
                Ok(news) => decode(NEWS, &news.bytes).map(|task| self.heard(task)),
                Err(StoreError::Trimmed { first, .. }) => {
                    cursor = Cursor::new(self.store.clone(), NEWS.to_owned(), first);
                    self.look_at_all().await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                tracing::error!("the tasks of other servers cannot be followed: {error}");
                sleep(STORE_PAUSE).await;
            }
        }
    }

    /// News were missed.
    async fn look_at_all(&self) -> Result<(), StoreError> {
        let live: Vec<_> = lock(&self.live).keys().copied().collect();
        let elsewhere: Vec<_> = lock(&self.elsewhere).keys().copied().collect();
        for id in live.into_iter().chain(elsewhere) {
            if let Some(task) = self.stored(id).await? {
                self.heard(task);
            }
        }
        Ok(())
    }

    /// Tells other servers how far a task is, until this is dropped.
    pub(super) async fn report(&self, live: &Live) -> Infallible {
        if !self.peers.are_there() {
            return std::future::pending().await;
        }
        let mut task = live.task.subscribe();
        loop {
            sleep(REPORT_INTERVAL).await;
            if task.has_changed().unwrap_or_default() {
                let task = task.borrow_and_update().clone();
                if !task.state.is_end() {
                    // The next report says more.
                    let _ = self.store.commit(self.news(&task)).await;
                }
            }
        }
    }
}

//! Texts that several peers edit at the same time. A document is a stream of
//! changes in the store. Whoever has it open shares one copy in memory: a change
//! is durable before that copy has it, and nobody is given anything but what
//! that copy has.
//!
//! Where servers share the store, each has a copy, which follows the stream; whoever
//! finds that another one was faster reads on and tries again.
//!
//! Changes are taken whole or not at all, and only if the document can be saved,
//! loaded and given to others with them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use serde::{Deserialize, Serialize};
pub use shared_document::Head;
use shared_document::{Document, Refusal, advance};
use tokio::sync::{Mutex as Turn, OwnedSemaphorePermit, Semaphore, watch};

use super::{
    feed::{self, Usage},
    names::{self, BadName},
    peers::Peers,
    store::{self, Extent, Store, StoreError, Write, Written},
};

const MAX_DOCUMENTS: usize = 64;
const MAX_PEERS: usize = 256;
/// Of all documents that are open: as many as four long histories have. Each takes
/// some 50 bytes of memory.
const MAX_OPERATIONS: usize = 16 << 20;
/// In bytes, unless a single change has more.
const UPDATE: usize = 1 << 20;
/// A document with so many records, or so many bytes in them more than in the
/// last snapshot, is written anew as one.
const RECORDS: u64 = 256;
const RECORDED: u64 = 4 << 20;
/// What the names of their streams begin with.
const DOCUMENT: &str = "document/";
/// Records that are read at a time.
const READ: usize = 64;

#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("document {0}")]
    BadName(BadName),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the server has {0} documents, which is the maximum; remove one")]
    TooManyKept(usize),
    #[error("document {0:?} is open; it can be removed when it is closed everywhere")]
    Occupied(String),
    #[error("{MAX_DOCUMENTS} documents are already open; try again later")]
    TooManyDocuments,
    #[error("the open documents have as many edits as they may have together; try again later")]
    TooManyOperations,
    #[error("document {0:?} is already open in {MAX_PEERS} places; try again later")]
    TooManyPeers(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A record of a document's stream. The first one that is left says all that was
/// before it.
#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    Snapshot(Vec<u8>),
    Changes(Vec<Vec<u8>>),
}

/// All documents that somebody has open.
#[derive(Debug)]
pub struct Documents {
    store: Arc<dyn Store>,
    peers: Peers,
    /// How many documents may be kept, open or not.
    most: usize,
    /// A document is alive as long as a peer has it, or a commit is under way.
    open: Mutex<HashMap<String, Weak<Shared>>>,
    budget: Budget,
}

/// What open documents may take in memory.
#[derive(Debug, Clone)]
struct Budget {
    operations: Arc<Semaphore>,
    /// What a document takes is known when it is loaded: so that is one at a time.
    loading: Arc<Turn<()>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    store: Arc<dyn Store>,
    most: usize,
    /// As it is on the disk.
    latest: watch::Sender<Arc<Document>>,
    /// Whoever has the turn may append. `None` when it has to be read first.
    log: Turn<Option<Log>>,
    budget: Budget,
    /// The operations of `latest`, out of the budget.
    held: Mutex<OwnedSemaphorePermit>,
}

/// What is on the disk after the last snapshot.
#[derive(Debug, Default)]
struct Log {
    last: u64,
    records: u64,
    bytes: u64,
    snapshot: u64,
}

/// One who has a document open.
#[derive(Debug)]
pub struct Peer {
    shared: Arc<Shared>,
    latest: watch::Receiver<Arc<Document>>,
    /// What other servers append, if there are any.
    more: Option<watch::Receiver<u64>>,
    /// What it has, of the document and besides.
    has: Vec<Head>,
    /// Whether it has to be told the heads.
    waits: bool,
}

/// What a peer does not have yet.
#[derive(Debug)]
pub struct Update {
    /// Each as automerge encodes it.
    pub changes: Vec<Vec<u8>>,
    /// What the server has with them.
    pub heads: Vec<Head>,
}

impl Documents {
    /// Up to `most` documents, which are kept in `store`.
    pub fn new(store: Arc<dyn Store>, peers: Peers, most: usize) -> Self {
        let budget = Budget { operations: Arc::new(Semaphore::new(MAX_OPERATIONS)), loading: Arc::default() };
        Self { store, peers, most, open: Mutex::default(), budget }
    }

    /// Removes a document that nobody has open, with all its history. One that is
    /// not there is removed already.
    pub async fn remove(&self, name: &str) -> Result<(), DocumentError> {
        names::check(name).map_err(DocumentError::BadName)?;
        let shared = self.shared(name)?;
        spawned(async move {
            // A peer that opens it now waits for this turn, and finds what is there then.
            let mut turn = shared.log.lock().await;
            if shared.latest.receiver_count() > 0 {
                return Err(DocumentError::Occupied(shared.name.clone()));
            }
            *turn = None;
            let stream = shared.stream();
            let Extent { last: expect, .. } = shared.store.extent(&stream).await?;
            shared.store.commit(vec![Write::Forget { stream, expect }]).await?;
            Ok(())
        })
        .await
    }

    /// What all documents take.
    pub async fn usage(&self) -> Result<Usage, StoreError> {
        Usage::of(&*self.store, DOCUMENT).await
    }

    /// For a peer that has these changes, and perhaps others that are not known.
    pub async fn open(&self, name: &str, has: Vec<Head>) -> Result<Peer, DocumentError> {
        names::check(name).map_err(DocumentError::BadName)?;
        let shared = self.shared(name)?;
        let latest = shared.latest.subscribe();
        if shared.latest.receiver_count() > MAX_PEERS {
            return Err(DocumentError::TooManyPeers(name.to_owned()));
        }
        // A load that is begun is finished: the next one who asks has it.
        let loading = shared.clone();
        spawned(async move { loading.loaded(&mut *loading.log.lock().await).await.map(drop) }).await?;
        let more = self.peers.are_there().then(|| self.store.watch(&shared.stream()));
        Ok(Peer { shared, latest, more, has, waits: true })
    }

    fn shared(&self, name: &str) -> Result<Arc<Shared>, DocumentError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = open.get(name).and_then(Weak::upgrade) {
            return Ok(shared);
        }
        open.retain(|_, document| document.strong_count() > 0);
        if open.len() == MAX_DOCUMENTS {
            return Err(DocumentError::TooManyDocuments);
        }
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            store: self.store.clone(),
            most: self.most,
            latest: watch::Sender::new(Arc::new(Document::genesis().map_err(damaged)?)),
            log: Turn::default(),
            budget: self.budget.clone(),
            held: Mutex::new(self.budget.take(0)?),
        });
        open.insert(name.to_owned(), Arc::downgrade(&shared));
        Ok(shared)
    }
}

impl Peer {
    /// Comes back when there is an [`update`](Self::update) to be had. Cancelling
    /// loses nothing.
    pub async fn behind(&mut self) {
        while !self.waits {
            tokio::select! {
                // The other end is in `shared`, which this peer has.
                Ok(()) = self.latest.changed() => self.waits = true,
                () = changed(&mut self.more) => {
                    let shared = self.shared.clone();
                    // It goes on when this is cancelled: nothing would wake it again.
                    let _ = spawned(async move { shared.catch_up().await; Ok(()) }).await;
                }
            }
        }
    }

    /// What the peer does not have, which may be nothing. From now on it has it.
    pub async fn update(&mut self) -> Result<Update, DocumentError> {
        let document = self.latest.borrow_and_update().clone();
        let has = self.has.clone();
        let (changes, has, heads) = computed(move || {
            let (changes, has) = document.changes_since(&has, UPDATE);
            let changes = changes.iter().map(|change| change.raw_bytes().to_vec()).collect();
            (changes, has, document.heads())
        })
        .await?;
        self.waits = !heads.iter().all(|head| has.contains(head));
        self.has = if self.waits { has } else { heads.clone() };
        Ok(Update { changes, heads })
    }

    /// Takes changes of this peer: all of them or none. They are durable when
    /// the answer is there; the next update says so.
    pub async fn offer(&mut self, changes: Vec<Vec<u8>>) -> Result<(), DocumentError> {
        let shared = self.shared.clone();
        // What is committed is given to the others, whatever becomes of this peer.
        let new = spawned(async move { shared.take(changes).await }).await?;
        self.has.extend(new);
        self.waits = true;
        Ok(())
    }
}

impl Shared {
    fn stream(&self) -> String {
        format!("{DOCUMENT}{}", self.name)
    }

    /// With what is new among the changes.
    async fn take(&self, changes: Vec<Vec<u8>>) -> Result<Vec<Head>, DocumentError> {
        let changes = Arc::new(changes);
        let mut turn = self.log.lock().await;
        loop {
            match self.try_take(&mut turn, changes.clone()).await {
                // Another server was faster.
                Err(DocumentError::Store(StoreError::Conflict { .. })) => self.read_on(&mut turn).await?,
                taken => return taken,
            }
        }
    }

    async fn try_take(
        &self,
        turn: &mut Option<Log>,
        changes: Arc<Vec<Vec<u8>>>,
    ) -> Result<Vec<Head>, DocumentError> {
        self.loaded(turn).await?;
        let document = self.latest.borrow().clone();
        let (document, new) = computed(move || document.with(&changes)).await??;
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let is_new = turn.as_ref().is_some_and(|log| log.records == 0 && log.snapshot == 0);
        if is_new && feed::is_full(&*self.store, DOCUMENT, self.most).await? {
            return Err(DocumentError::TooManyKept(self.most));
        }
        self.hold(&document)?;
        let heads = new.iter().fold(Vec::new(), |mut heads, change| {
            advance(&mut heads, change);
            heads
        });
        let entry = Entry::Changes(new.iter().map(|change| change.raw_bytes().to_vec()).collect());
        // Until the answer is there nobody knows what is on the disk.
        let mut log = turn.take().unwrap_or_default();
        let record = store::encode(&entry);
        let size = record.len() as u64;
        match self.append(log.last, vec![], record).await {
            Ok(last) => log = Log { last, records: log.records + 1, bytes: log.bytes + size, ..log },
            Err(error) => {
                // Nothing was made: what is known is true still.
                *turn = Some(log).filter(|_| matches!(error, StoreError::Conflict { .. }));
                return Err(error.into());
            }
        }
        let document = Arc::new(document);
        self.latest.send_replace(document.clone());
        *turn = Some(log);
        self.compact(turn, document).await;
        Ok(heads)
    }

    async fn append(&self, last: u64, after: Vec<Write>, record: bytes::Bytes) -> Result<u64, StoreError> {
        let append = Write::Append { stream: self.stream(), record, id: None, expect: Some(last) };
        let writes = [append].into_iter().chain(after).collect();
        match self.store.commit(writes).await?.first() {
            Some(Written::Appended(sequence) | Written::Known(sequence)) => Ok(*sequence),
            _ => Err(StoreError::Broken("it does not say what it has written".to_owned())),
        }
    }

    /// Writes the document anew when its changes have become too many. Should
    /// that fail, they are there still.
    async fn compact(&self, turn: &mut Option<Log>, document: Arc<Document>) {
        let due = |log: &Log| log.records > RECORDS || log.bytes > RECORDED + log.snapshot;
        let Some(last) = turn.as_ref().filter(|log| due(log)).map(|log| log.last) else { return };
        let Ok(Some(snapshot)) = computed(move || snapshot(&document)).await else {
            tracing::error!(document = %self.name, "the document cannot be written anew: it would not be the same");
            *turn = Some(Log { last, ..Log::default() });
            return;
        };
        let log = Log { last: last + 1, snapshot: snapshot.len() as u64, ..Log::default() };
        let trim = Write::Trim { stream: self.stream(), before: log.last };
        *turn = match self.append(last, vec![trim], snapshot).await {
            Ok(_) => Some(log),
            Err(error) => {
                tracing::warn!(document = %self.name, %error, "the document's changes could not be compacted");
                None
            }
        };
    }

    /// Reads what is on the disk, if it is not known.
    async fn loaded(&self, turn: &mut Option<Log>) -> Result<(), DocumentError> {
        if turn.is_some() {
            return Ok(());
        }
        let _loading = self.budget.loading.lock().await;
        let extent = self.store.extent(&self.stream()).await?;
        let log = Log { last: extent.first - 1, ..Log::default() };
        let genesis = Document::genesis().map_err(damaged)?;
        self.read(turn, genesis, log, extent).await
    }

    /// What other servers have appended.
    async fn catch_up(&self) {
        const PAUSE: Duration = Duration::from_millis(500);
        while let Err(error) = self.read_on(&mut *self.log.lock().await).await {
            tracing::warn!(document = %self.name, %error, "what other servers have written cannot be read");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read_on(&self, turn: &mut Option<Log>) -> Result<(), DocumentError> {
        let extent = self.store.extent(&self.stream()).await?;
        match turn.take() {
            Some(log) if log.last == extent.last => *turn = Some(log),
            Some(log) if extent.first <= log.last => {
                let document = (**self.latest.borrow()).clone();
                self.read(turn, document, log, extent).await?;
            }
            // It was written anew, or removed.
            _ => self.loaded(turn).await?,
        }
        Ok(())
    }

    /// Reads to the end.
    async fn read(
        &self,
        turn: &mut Option<Log>,
        mut document: Document,
        mut log: Log,
        extent: Extent,
    ) -> Result<(), DocumentError> {
        while log.last < extent.last {
            let records = self.store.read(&self.stream(), log.last + 1, READ).await?;
            let Some(last) = records.last() else { break };
            log.last = last.sequence;
            let mut changes = Vec::with_capacity(records.len());
            for record in records {
                let size = record.bytes.len() as u64;
                match store::decode("a change of a document", &record.bytes)? {
                    Entry::Snapshot(bytes) => {
                        log = Log { last: log.last, snapshot: size, ..Log::default() };
                        changes.clear();
                        document = computed(move || Document::load(&bytes)).await?.map_err(damaged)?;
                    }
                    Entry::Changes(new) => {
                        (log.records, log.bytes) = (log.records + 1, log.bytes + size);
                        changes.push(new);
                    }
                }
            }
            document = computed(move || with_all(document, &changes)).await?.map_err(damaged)?;
        }
        self.hold(&document)?;
        self.latest.send_replace(Arc::new(document));
        *turn = Some(log);
        Ok(())
    }

    /// Takes what the document needs out of the budget, as long as it is open.
    fn hold(&self, document: &Document) -> Result<(), DocumentError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let more = document.operations().saturating_sub(held.num_permits() as u64);
        held.merge(self.budget.take(more)?);
        Ok(())
    }
}

impl Budget {
    fn take(&self, operations: u64) -> Result<OwnedSemaphorePermit, DocumentError> {
        let operations = u32::try_from(operations).unwrap_or(u32::MAX);
        let taken = self.operations.clone().try_acquire_many_owned(operations);
        taken.map_err(|_| DocumentError::TooManyOperations)
    }
}

fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("a document: {error}"))
}

/// With the changes of records that were taken one after the other.
fn with_all(document: Document, records: &[Vec<Vec<u8>>]) -> Result<Document, Refusal> {
    // It costs as much as the text is long, however many they are.
    match document.with_known(&records.concat()) {
        Ok((with, _)) => Ok(with),
        // Together they may be more than is taken at a time.
        Err(_) => records.iter().try_fold(document, |document, changes| Ok(document.with_known(changes)?.0)),
    }
}

/// None when the document cannot be had from it.
fn snapshot(document: &Document) -> Option<bytes::Bytes> {
    let saved = document.save();
    let same = Document::load(&saved).is_ok_and(|loaded| loaded.heads() == document.heads());
    same.then(|| store::encode(&Entry::Snapshot(saved)))
}

/// When there is more of a stream.
async fn changed(more: &mut Option<watch::Receiver<u64>>) {
    if let Some(more) = more
        && more.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Does what takes time.
async fn computed<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(damaged)
}

/// Goes on to the end when whoever waits for it is cancelled.
async fn spawned<T: Send + 'static>(
    work: impl Future<Output = Result<T, DocumentError>> + Send + 'static,
) -> Result<T, DocumentError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(damaged(error).into()))
}

#[cfg(test)]
mod tests;

//! Uploads that survive crashes, and the content that results from them.
//!
//! An upload is a growing file, and an entry in the store that says how much of the
//! file is durable. That is the committed size, at which the next attempt begins, also
//! after a crash. Only one attempt writes at a time; a new one takes over. When an
//! upload has its declared size and checksum, it becomes content, which never changes.
//! A name stands for the newest content that was uploaded under it.
//!
//! Where several servers share a store, the bytes are in the store as well, and every
//! server goes on with the uploads of all of them.
//!
//! Invariants: `committed_size` never includes a byte that was not fsynced, and two
//! attempts never write to one upload.

mod content;
mod disk;
#[cfg(any(test, feature = "fuzzing"))]
mod model;
mod pieces;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use blake3::Hasher;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, RwLock, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::disk::has_files;
#[cfg(feature = "fuzzing")]
pub use self::model::fuzzed;
pub use self::{content::Content, writer::Attempt};
use self::{
    disk::Disk,
    pieces::Pieces,
    writer::{Kept, Tail},
};
use super::{
    feed::Usage,
    lock,
    open_files::{OpenFiles, Place, TooManyOpenFiles},
    resources::{Blob, Source, Upload},
    store::{Expect, Store, StoreError, Write, decode, encode},
};
use crate::platform;

/// How many bytes of all uploads together may wait for the disk.
const QUEUED_BYTES: usize = 16 << 20;

/// Prefixes of keys in the store.
const UPLOAD: &str = "upload/";
const FILE: &str = "file/";

/// The limits of uploads.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    /// The largest content, in bytes.
    pub size: u64,
    /// How many unfinished uploads there may be.
    pub partials: usize,
    /// How long an unfinished upload is kept after its last progress.
    pub kept: Duration,
    /// After this many bytes, what has arrived is made durable.
    pub checkpoint: u64,
    /// How many file names may be kept.
    pub files: usize,
    /// How many bytes of content may be kept, including the declared sizes of
    /// unfinished uploads.
    pub content: u64,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            size: 1 << 30,
            partials: 64,
            kept: Duration::from_secs(24 * 3600),
            checkpoint: 32 << 20,
            files: 10_000,
            content: 64 << 30,
        }
    }
}

#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("{1}: there is no such {0} on this server")]
    NotFound(&'static str, String),
    #[error("an upload of {size} bytes is too large: {limit} are allowed")]
    TooLarge { size: u64, limit: u64 },
    #[error("{limit} uploads are not finished; finish one of them or come back later")]
    TooMany { limit: usize },
    #[error("the server keeps {limit} files, and that is as many as it may; remove one of them")]
    TooManyFiles { limit: usize },
    #[error("the content would take more than the {limit} bytes that the server may keep; remove a file")]
    TooMuchContent { limit: u64 },
    #[error("{0} is the content of a file; remove that")]
    Named(Blob),
    #[error(transparent)]
    TooManyOpenFiles(#[from] TooManyOpenFiles),
    #[error("upload {0} is at work on other content, or under another name; choose another UUID")]
    IdInUse(Uuid),
    #[error("the first write_offset is {offset}, but {committed} bytes are committed; go on there")]
    NotCommittedSize { offset: u64, committed: u64 },
    #[error("write_offset is {offset}, but the bytes before end at {expected}")]
    WrongOffset { offset: u64, expected: u64 },
    #[error("data goes on after the {0} bytes that were declared")]
    TooLong(u64),
    #[error("finish_write comes after {length} of the {declared} bytes that were declared")]
    TooShort { length: u64, declared: u64 },
    #[error(
        "the bytes that arrived have the BLAKE3 checksum {found}, not the declared {declared}; all are gone"
    )]
    WrongChecksum { found: blake3::Hash, declared: blake3::Hash },
    #[error("another stream has taken over this upload")]
    Superseded,
    #[error("the server's disk is full")]
    DiskFull,
    #[error("the server's disk does not work: {0}")]
    Disk(io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        // What reads content from the store has the error of the store in it.
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
                _ => Self::Disk(error),
            },
        }
    }
}

impl From<UploadError> for io::Error {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Disk(error) => error,
            UploadError::NotFound(..) => Self::new(io::ErrorKind::NotFound, error),
            error => Self::other(error),
        }
    }
}

/// All uploads and all content of a server.
#[derive(Debug, Clone)]
pub struct Uploads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    medium: Medium,
    limits: UploadLimits,
    /// On a disk, all that are not finished; else those with an attempt on this server.
    slots: Mutex<HashMap<Uuid, Arc<Slot>>>,
    queue: Arc<Semaphore>,
    files: OpenFiles,
    /// Held for writing while content is removed, and for reading while content is
    /// looked up and named.
    names: RwLock<()>,
}

/// Where the bytes are.
#[derive(Debug)]
enum Medium {
    Disk(Arc<Disk>),
    Store(Pieces),
}

/// An unfinished upload.
#[derive(Debug)]
struct Slot {
    upload: Upload,
    /// The durable size, as the store has it.
    committed: AtomicU64,
    /// Cancelled when another attempt takes over from the present one.
    fence: Mutex<CancellationToken>,
    /// Only its holder may touch the file. An attempt that was fenced off holds it
    /// until its last write has returned, so that the next attempt finds a file that no
    /// longer changes.
    lease: Arc<AsyncMutex<Lease>>,
}

#[derive(Debug)]
struct Lease {
    /// The hash state of the committed bytes; `None` when they have to be read for it.
    hasher: Option<Hasher>,
    /// The time of the last commit.
    touched: SystemTime,
    /// Whether the upload has ended and its slot is no longer listed.
    over: bool,
}

/// The store's entry of an upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Journal {
    blob: Blob,
    name: Option<String>,
    committed: u64,
    touched: SystemTime,
}

impl Journal {
    fn new(upload: &Upload, committed: u64) -> Self {
        Self { blob: upload.blob, name: upload.name.clone(), committed, touched: platform::now() }
    }

    fn is_of(&self, upload: &Upload) -> bool {
        self.blob == upload.blob && self.name == upload.name
    }
}

/// Of an upload, from the key of its entry.
fn id_in(key: &str) -> Result<Uuid, StoreError> {
    let id = key.strip_prefix(UPLOAD).and_then(|id| Uuid::try_parse(id).ok());
    id.ok_or_else(|| StoreError::Damaged(format!("{key} is no upload")))
}

/// Gives content the name of its upload, if that has one.
fn naming(upload: &Upload) -> Option<Write> {
    let key = format!("{FILE}{}", upload.name.as_ref()?);
    let value = encode(&Named { blob: upload.blob, time: platform::now() });
    Some(Write::Put { key, value, expect: Expect::Anything })
}

/// The content of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The content.
    pub blob: Blob,
    /// When the name was given to the content.
    pub time: SystemTime,
}

/// The progress of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many bytes are durable.
    pub committed: u64,
    /// Whether the content exists and the name stands for it.
    pub complete: bool,
}

/// The result of beginning or resuming an upload.
#[derive(Debug)]
pub enum Begun {
    /// The content exists already, and now has this name.
    Known,
    /// The attempt now takes its bytes.
    Attempt(Attempt),
}

impl Uploads {
    /// Loads the uploads of an earlier run, and removes what is no longer usable.
    ///
    /// # Errors
    ///
    /// When the disk or the store does not work.
    pub async fn open(
        store: Arc<dyn Store>,
        directory: &Path,
        limits: UploadLimits,
        files: OpenFiles,
    ) -> Result<Self, UploadError> {
        let directory = directory.to_owned();
        let disk = Arc::new(blocking(move || Disk::open(&directory)).await?);
        let uploads = Self::new(store, Medium::Disk(disk.clone()), limits, files);
        uploads.load(&disk).await?;
        uploads.sweep().await;
        let shared = uploads.0.clone();
        blocking(move || disk.remove_unknown(|id| lock(&shared.slots).contains_key(&id))).await?;
        Ok(uploads)
    }

    /// The uploads and the content in a store that other servers use as well.
    pub async fn share(store: Arc<dyn Store>, limits: UploadLimits, files: OpenFiles) -> Self {
        let pieces = Pieces::new(store.clone());
        let uploads = Self::new(store, Medium::Store(pieces), limits, files);
        uploads.sweep().await;
        uploads
    }

    fn new(store: Arc<dyn Store>, medium: Medium, limits: UploadLimits, files: OpenFiles) -> Self {
        let queue = Arc::new(Semaphore::new(QUEUED_BYTES));
        let (slots, names) = (Mutex::default(), RwLock::default());
        let uploads = Self(Arc::new(Shared { store, medium, limits, slots, queue, files, names }));
        tokio::spawn(sweep_now_and_then(Arc::downgrade(&uploads.0), limits.kept));
        uploads
    }

    async fn load(&self, disk: &Disk) -> Result<(), UploadError> {
        const PAGE: usize = 100;
        let mut after = String::new();
        loop {
            let page = self.0.store.list(UPLOAD, &after, PAGE).await?;
            for (key, value) in &page {
                let Journal { blob, name, committed, touched } = decode(key, value)?;
                let id = id_in(key)?;
                // Without its file there is nothing to resume. The content was
                // committed just before a crash, or a person has removed the file.
                let usable = disk.length(id).is_some_and(|length| length >= committed);
                let lease = Lease { hasher: None, touched, over: false };
                let slot = Slot::new(Upload { id, blob, name }, if usable { committed } else { 0 }, lease);
                lock(&self.0.slots).insert(id, Arc::new(slot));
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after.clone_from(last),
                _ => return Ok(()),
            }
        }
    }

    /// The progress of an upload. Changes nothing.
    pub async fn progress(&self, upload: &Upload) -> Result<Progress, UploadError> {
        // Read before the content is looked up, so that an upload that completes in
        // between is found as content.
        let committed = match &self.0.medium {
            Medium::Disk(_) => self.slot(upload).map(|slot| slot.committed.load(Relaxed)),
            Medium::Store(pieces) => pieces.committed(upload).await?,
        };
        if self.has(upload.blob).await? {
            let complete = match &upload.name {
                Some(name) => self.named(name).await?.is_some_and(|named| named.blob == upload.blob),
                None => true,
            };
            return Ok(Progress { committed: upload.blob.size, complete });
        }
        let committed = committed.ok_or_else(|| UploadError::NotFound("upload", upload.to_string()))?;
        Ok(Progress { committed, complete: false })
    }

    fn slot(&self, upload: &Upload) -> Option<Arc<Slot>> {
        lock(&self.0.slots).get(&upload.id).filter(|slot| slot.upload == *upload).cloned()
    }

    /// Begins an upload, or resumes it at its committed size and takes over from the
    /// present attempt.
    pub async fn begin(&self, upload: Upload, offset: u64) -> Result<Begun, UploadError> {
        let limit = self.0.limits.size;
        if upload.blob.size > limit {
            return Err(UploadError::TooLarge { size: upload.blob.size, limit });
        }
        let limit = self.0.limits.files;
        if let Some(name) = &upload.name
            && self.named(name).await?.is_none()
            && self.list("", limit).await?.len() == limit
        {
            return Err(UploadError::TooManyFiles { limit });
        }
        loop {
            if self.name_known(&upload).await? {
                return Ok(Begun::Known);
            }
            let (slot, fence) = self.take_over(&upload).await?;
            let mut lease = tokio::select! {
                biased;
                () = fence.cancelled() => return Err(UploadError::Superseded),
                lease = slot.lease.clone().lock_owned() => lease,
            };
            if lease.over {
                continue;
            }
            let resumed = match &self.0.medium {
                Medium::Disk(disk) => self.resume(disk, &slot, lease, offset).await?,
                Medium::Store(pieces) => {
                    let resumed = self.resume_elsewhere(pieces, &upload, offset).await;
                    if resumed.is_err() {
                        self.end(&slot, &mut lease);
                    }
                    Some((resumed?, lease))
                }
            };
            if let Some((tail, lease)) = resumed {
                let place = self.place()?;
                return Ok(Begun::Attempt(Attempt::start(self.clone(), slot, lease, fence, tail, place)));
            }
        }
    }

    /// Goes on with an upload on this server's disk; `None` when it has to begin anew.
    async fn resume(
        &self,
        disk: &Arc<Disk>,
        slot: &Slot,
        mut lease: OwnedMutexGuard<Lease>,
        offset: u64,
    ) -> Result<Option<(Tail, OwnedMutexGuard<Lease>)>, UploadError> {
        let committed = self.committed(slot, &mut lease).await?;
        if offset != committed {
            return Err(UploadError::NotCommittedSize { offset, committed });
        }
        let (disk, id, hasher) = (disk.clone(), slot.upload.id, lease.hasher.clone());
        // The closure owns the lease, because the handler may be gone before the
        // file is open.
        let opened = blocking(move || disk.resume(id, committed, hasher).map(|opened| (opened, lease)));
        let (opened, mut lease) = opened.await?;
        if let Some((file, hasher)) = opened {
            lease.hasher = Some(hasher.clone());
            return Ok(Some((Tail { kept: Kept::File(file), length: committed, hasher }, lease)));
        }
        tracing::error!(upload = %slot.upload, "bytes are gone that were on disk: it begins anew");
        self.0.store.commit(vec![slot.forgetting()]).await?;
        slot.committed.store(0, Relaxed);
        Ok(None)
    }

    /// Goes on with an upload of any server that shares the store.
    async fn resume_elsewhere(
        &self,
        pieces: &Pieces,
        upload: &Upload,
        offset: u64,
    ) -> Result<Tail, UploadError> {
        let claim = pieces.take(upload).await?;
        let committed = claim.committed();
        if offset != committed {
            return Err(UploadError::NotCommittedSize { offset, committed });
        }
        let (hasher, rest) = pieces.resume(&claim).await?;
        Ok(Tail { kept: Kept::Pieces { claim, pending: vec![rest] }, length: committed, hasher })
    }

    /// The committed size in the store. The slot may be behind, because the answer to
    /// the last checkpoint may have been lost.
    async fn committed(&self, slot: &Slot, lease: &mut Lease) -> Result<u64, UploadError> {
        let (key, upload) = (slot.key(), &slot.upload);
        let journal =
            self.0.store.get(&key).await?.map(|value| decode::<Journal>(&key, &value)).transpose()?;
        // Ignores the entry of an earlier upload with the same id.
        let journal = journal.filter(|journal| journal.is_of(upload));
        let committed = journal.map_or(0, |journal| journal.committed);
        if slot.committed.swap(committed, Relaxed) != committed {
            lease.hasher = None;
        }
        Ok(committed)
    }

    /// The slot of an upload, and the token that is cancelled when the next attempt
    /// takes over.
    async fn take_over(&self, upload: &Upload) -> Result<(Arc<Slot>, CancellationToken), UploadError> {
        let kept = self.content().await?;
        match self.try_take_over(upload, kept, &self.elsewhere().await?) {
            Err(UploadError::TooMany { .. } | UploadError::TooMuchContent { .. }) => {
                self.sweep().await;
                self.try_take_over(upload, kept, &self.elsewhere().await?)
            }
            taken => taken,
        }
    }

    /// Unfinished uploads that may have no slot here.
    async fn elsewhere(&self) -> Result<Vec<(Uuid, Journal)>, UploadError> {
        match &self.0.medium {
            Medium::Disk(_) => Ok(Vec::new()),
            Medium::Store(pieces) => Ok(pieces.unfinished().await?),
        }
    }

    fn try_take_over(
        &self,
        upload: &Upload,
        kept: Usage,
        elsewhere: &[(Uuid, Journal)],
    ) -> Result<(Arc<Slot>, CancellationToken), UploadError> {
        let mut slots = lock(&self.0.slots);
        let limit = self.0.limits.partials;
        let UploadLimits { files, content, .. } = self.0.limits;
        let others = || elsewhere.iter().filter(|(id, _)| !slots.contains_key(id));
        let has_place = others().any(|(id, _)| *id == upload.id);
        let places = slots.len() + others().count();
        let declared = slots.values().map(|slot| slot.upload.blob.size).sum::<u64>()
            + others().map(|(_, journal)| journal.blob.size).sum::<u64>();
        let slot = match slots.get(&upload.id) {
            Some(slot) if slot.upload == *upload => slot.clone(),
            Some(_) => return Err(UploadError::IdInUse(upload.id)),
            None if !has_place && places >= limit => return Err(UploadError::TooMany { limit }),
            None if !has_place && kept.count + places as u64 >= files as u64 => {
                return Err(UploadError::TooManyFiles { limit: files });
            }
            None if !has_place
                && kept.bytes.saturating_add(declared).saturating_add(upload.blob.size) > content =>
            {
                return Err(UploadError::TooMuchContent { limit: content });
            }
            None => {
                let lease = Lease { hasher: None, touched: platform::now(), over: false };
                let slot = Arc::new(Slot::new(upload.clone(), 0, lease));
                slots.insert(upload.id, slot.clone());
                slot
            }
        };
        let fence = CancellationToken::new();
        std::mem::replace(&mut *lock(&slot.fence), fence.clone()).cancel();
        Ok((slot, fence))
    }

    /// Names content, if it exists, and ends the upload that would have become the same
    /// content.
    async fn name_known(&self, upload: &Upload) -> Result<bool, UploadError> {
        let names = match &self.0.medium {
            Medium::Disk(_) => {
                let names = self.0.names.read().await;
                if !self.has(upload.blob).await? {
                    return Ok(false);
                }
                Some(names)
            }
            Medium::Store(pieces) if pieces.name_known(upload).await? => None,
            Medium::Store(_) => return Ok(false),
        };
        // Another upload with the same id goes on.
        if let Some(slot) = self.slot(upload) {
            lock(&slot.fence).cancel();
            let uploads = self.clone();
            tokio::spawn(async move {
                let mut lease = slot.lease.lock().await;
                uploads.discard(&slot, &mut lease).await;
            });
        }
        // The store has named it in the same commit.
        if names.is_some() {
            self.give_name(upload, Vec::new()).await?;
        }
        Ok(true)
    }

    async fn give_name(&self, upload: &Upload, mut writes: Vec<Write>) -> Result<(), UploadError> {
        if let Some(name) = &upload.name
            && self.named(name).await?.is_none_or(|named| named.blob != upload.blob)
        {
            writes.extend(naming(upload));
        }
        if !writes.is_empty() {
            self.0.store.commit(writes).await?;
        }
        Ok(())
    }

    async fn named(&self, name: &str) -> Result<Option<Named>, StoreError> {
        let key = format!("{FILE}{name}");
        self.0.store.get(&key).await?.map(|value| decode(&key, &value)).transpose()
    }

    /// The content that a name stands for.
    pub async fn find(&self, source: &Source) -> Result<Blob, UploadError> {
        match source {
            Source::Blob(blob) => Ok(*blob),
            Source::File(name) => match self.named(name).await? {
                Some(named) => Ok(named.blob),
                None => Err(UploadError::NotFound("file", source.to_string())),
            },
        }
    }

    /// Removes a name, and its content unless another name stands for it. If `blob` is
    /// given, removes the name only as long as it stands for that content. Succeeds if
    /// the name does not exist.
    pub async fn remove(&self, name: &str, blob: Option<Blob>) -> Result<(), UploadError> {
        let key = format!("{FILE}{name}");
        let removed = match self.0.store.get(&key).await? {
            Some(value) => {
                let named: Named = decode(&key, &value)?;
                if blob.is_some_and(|blob| blob != named.blob) {
                    return Ok(());
                }
                let delete = Write::Delete { key, expect: Expect::Value(value) };
                match self.0.store.commit(vec![delete]).await {
                    // The name now stands for other content, or is gone.
                    Err(StoreError::Conflict { .. }) => return Ok(()),
                    removed => removed?,
                };
                Some(named.blob)
            }
            // A server that died may have left the content.
            None => blob,
        };
        match removed {
            Some(blob) => match self.remove_content(blob).await {
                Err(UploadError::Named(_)) => Ok(()),
                removed => removed,
            },
            None => Ok(()),
        }
    }

    /// Removes content without a name.
    pub async fn remove_content(&self, blob: Blob) -> Result<(), UploadError> {
        let uploads = self.clone();
        // In a task of its own, which holds the lock until the file is gone even if
        // this call is dropped.
        let removing = tokio::spawn(async move {
            match &uploads.0.medium {
                Medium::Store(pieces) => {
                    while let Some(found) = pieces.find(&blob).await? {
                        uploads.is_unnamed(blob).await?;
                        if pieces.remove_content(&blob, found).await? {
                            break;
                        }
                    }
                    Ok(())
                }
                Medium::Disk(disk) => {
                    let _names = uploads.0.names.write().await;
                    // Commits take effect in order. So after this one, every name that was
                    // given before is in the store.
                    uploads.0.store.commit(Vec::new()).await?;
                    uploads.is_unnamed(blob).await?;
                    let disk = disk.clone();
                    blocking(move || disk.remove_blob(&blob)).await
                }
            }
        });
        removing.await.map_err(io::Error::other)?
    }

    async fn is_unnamed(&self, blob: Blob) -> Result<(), UploadError> {
        match self.list("", usize::MAX).await?.iter().any(|(_, named)| named.blob == blob) {
            true => Err(UploadError::Named(blob)),
            false => Ok(()),
        }
    }

    /// The usage of files and content, and of unfinished uploads.
    pub async fn usage(&self) -> Result<[Usage; 3], UploadError> {
        let files = Usage { count: self.list("", usize::MAX).await?.len() as u64, bytes: 0 };
        let content = self.content().await?;
        let uploads: Vec<_> = match &self.0.medium {
            Medium::Disk(_) => {
                lock(&self.0.slots).values().map(|slot| slot.committed.load(Relaxed)).collect()
            }
            Medium::Store(pieces) => {
                pieces.unfinished().await?.iter().map(|(_, journal)| journal.committed).collect()
            }
        };
        let uploads = Usage { count: uploads.len() as u64, bytes: uploads.iter().sum() };
        Ok([files, content, uploads])
    }

    async fn content(&self) -> Result<Usage, UploadError> {
        match &self.0.medium {
            Medium::Disk(disk) => {
                let disk = disk.clone();
                blocking(move || disk.content()).await
            }
            Medium::Store(pieces) => Ok(pieces.usage().await?),
        }
    }

    /// A permit to have a file open during a call.
    pub fn place(&self) -> Result<Place, TooManyOpenFiles> {
        self.0.files.place()
    }

    /// Opens content for reading. Blocks.
    pub fn open_blob(&self, blob: &Blob) -> Result<Content, UploadError> {
        let none = || UploadError::NotFound("content", blob.to_string());
        match &self.0.medium {
            Medium::Disk(disk) => match disk.read(blob) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(none()),
                file => Ok(Content::File(file?)),
            },
            Medium::Store(pieces) => pieces.open(blob)?.map(Content::Pieces).ok_or_else(none),
        }
    }

    /// Up to `most` names after `after`, in byte order.
    pub async fn list(&self, after: &str, most: usize) -> Result<Vec<(String, Named)>, StoreError> {
        let after = if after.is_empty() { String::new() } else { format!("{FILE}{after}") };
        let listed = self.0.store.list(FILE, &after, most).await?;
        listed
            .into_iter()
            .map(|(key, value)| {
                let name = key.strip_prefix(FILE).unwrap_or(&key);
                Ok((name.to_owned(), decode(&key, &value)?))
            })
            .collect()
    }

    async fn has(&self, blob: Blob) -> Result<bool, UploadError> {
        match &self.0.medium {
            Medium::Disk(disk) => {
                let disk = disk.clone();
                blocking(move || disk.has(&blob)).await
            }
            Medium::Store(pieces) => Ok(pieces.find(&blob).await?.is_some()),
        }
    }

    /// Removes idle uploads that have nothing on the disk or are too old.
    async fn sweep(&self) {
        let uploads = self.clone();
        // In a task of its own: a sweep cut short could leave an ended upload in the
        // list.
        let sweep = tokio::spawn(async move {
            if let Medium::Store(pieces) = &uploads.0.medium
                && let Err(error) = pieces.sweep(uploads.0.limits.kept).await
            {
                tracing::error!("old uploads could not be removed: {error}");
            }
            let slots: Vec<_> = lock(&uploads.0.slots).values().cloned().collect();
            for slot in slots {
                let Ok(mut lease) = slot.lease.try_lock() else { continue };
                let age = platform::now().duration_since(lease.touched).unwrap_or_default();
                if slot.committed.load(Relaxed) == 0 || age >= uploads.0.limits.kept {
                    uploads.discard(&slot, &mut lease).await;
                }
            }
        });
        if let Err(error) = sweep.await {
            tracing::error!("old uploads could not be removed: {error}");
        }
    }

    /// Ends an upload without content. The next start removes what cannot be removed
    /// now.
    async fn discard(&self, slot: &Arc<Slot>, lease: &mut Lease) {
        if lease.over {
            // The id may belong to another upload by now.
            return;
        }
        if let Medium::Disk(disk) = &self.0.medium {
            let (disk, id) = (disk.clone(), slot.upload.id);
            let removed = blocking(move || disk.remove(id)).await;
            let forgotten = self.0.store.commit(vec![slot.forgetting()]).await;
            for error in [removed.err(), forgotten.err().map(Into::into)].into_iter().flatten() {
                tracing::error!(upload = %slot.upload, "it is over and cannot be removed: {error}");
            }
        }
        self.end(slot, lease);
    }

    /// Removes an upload from the list.
    fn end(&self, slot: &Arc<Slot>, lease: &mut Lease) {
        lease.over = true;
        let mut slots = lock(&self.0.slots);
        if slots.get(&slot.upload.id).is_some_and(|listed| Arc::ptr_eq(listed, slot)) {
            slots.remove(&slot.upload.id);
        }
    }
}

impl Slot {
    fn new(upload: Upload, committed: u64, lease: Lease) -> Self {
        Self {
            upload,
            committed: AtomicU64::new(committed),
            fence: Mutex::default(),
            lease: Arc::new(AsyncMutex::new(lease)),
        }
    }

    fn key(&self) -> String {
        format!("{UPLOAD}{}", self.upload.id)
    }

    fn forgetting(&self) -> Write {
        Write::Delete { key: self.key(), expect: Expect::Anything }
    }
}

async fn sweep_now_and_then(shared: Weak<Shared>, kept: Duration) {
    loop {
        tokio::time::sleep((kept / 24).max(Duration::from_secs(1))).await;
        let Some(shared) = shared.upgrade() else { return };
        Uploads(shared).sweep().await;
    }
}

/// Runs disk work outside of the threads that serve calls.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, UploadError> {
    let done = platform::blocking(work).await;
    Ok(done.map_err(io::Error::other)??)
}

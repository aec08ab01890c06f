//! Uploads and content in a store that several servers share.
//!
//! The bytes are the records of a stream, of [`PIECE`] bytes each but the last one. What
//! is less than a piece waits under a key of its own until more comes. Whatever an attempt
//! writes expects the entry that its last write left, and it begins with a write: so
//! only the newest attempt of all servers goes on. Content is a key with the name of the
//! stream. Its value changes when the content gets a name, so content that another
//! server names at the same time is not removed.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
    time::Duration,
};

use blake3::Hasher;
use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{Journal, UPLOAD, UploadError, id_in, naming};
use crate::{
    feed::Usage,
    platform,
    resources::{Blob, Upload},
    store::{Expect, Extent, Store, StoreError, Write, decode, encode},
};

const PIECE: usize = if cfg!(any(test, feature = "fuzzing")) { 100 } else { 256 << 10 };
/// So many records are read at a time.
const AHEAD: usize = 4;
/// Of keys and streams, before the `/`.
const CONTENT: &str = "content/";
const REST: &str = "rest/";
/// An upload without bytes is kept for this long.
const EMPTY_KEPT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct Pieces {
    store: Arc<dyn Store>,
    runtime: Handle,
}

/// The store's entry of an upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    journal: Journal,
    /// Has the pieces.
    stream: Uuid,
    /// The newest one, which alone may write.
    attempt: Uuid,
}

/// The store's entry of content.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    stream: Uuid,
    /// How often it got a name.
    named: u64,
}

/// The right to write an upload, for as long as the store has this entry of it.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    entry: Entry,
    value: Bytes,
}

impl Claim {
    pub(super) fn committed(&self) -> u64 {
        self.entry.journal.committed
    }

    fn key(id: Uuid) -> String {
        format!("{UPLOAD}{id}")
    }

    fn rest(&self) -> String {
        format!("{REST}{}", self.entry.stream)
    }

    fn expected(&self) -> Expect {
        Expect::Value(self.value.clone())
    }
}

fn stream(id: Uuid) -> String {
    format!("{CONTENT}{id}")
}

fn content(blob: &Blob) -> String {
    format!("{CONTENT}{}-{}", blob.hash(), blob.size)
}

impl Pieces {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, runtime: Handle::current() }
    }

    /// All unfinished uploads.
    pub(super) async fn unfinished(&self) -> Result<Vec<(Uuid, Journal)>, StoreError> {
        let claims = self.claims().await?;
        Ok(claims.into_iter().map(|(id, claim)| (id, claim.entry.journal)).collect())
    }

    async fn claims(&self) -> Result<Vec<(Uuid, Claim)>, StoreError> {
        let listed = self.store.list(UPLOAD, "", usize::MAX).await?;
        listed
            .into_iter()
            .map(|(key, value)| Ok((id_in(&key)?, Claim { entry: decode(&key, &value)?, value })))
            .collect()
    }

    async fn claim(&self, id: Uuid) -> Result<Option<Claim>, StoreError> {
        let key = Claim::key(id);
        let value = self.store.get(&key).await?;
        value.map(|value| Ok(Claim { entry: decode(&key, &value)?, value })).transpose()
    }

    /// How much of an upload is durable, if it has begun.
    pub(super) async fn committed(&self, upload: &Upload) -> Result<Option<u64>, StoreError> {
        let claim = self.claim(upload.id).await?;
        Ok(claim.filter(|claim| claim.entry.journal.is_of(upload)).map(|claim| claim.committed()))
    }

    /// Takes an upload over from every other attempt, or begins it.
    pub(super) async fn take(&self, upload: &Upload) -> Result<Claim, UploadError> {
        loop {
            let before = self.claim(upload.id).await?;
            let (mut entry, expect) = match before {
                Some(claim) if !claim.entry.journal.is_of(upload) => {
                    return Err(UploadError::IdInUse(upload.id));
                }
                Some(claim) => (claim.entry.clone(), claim.expected()),
                None => {
                    let (stream, attempt) = (Uuid::new_v4(), Uuid::nil());
                    (Entry { journal: Journal::new(upload, 0), stream, attempt }, Expect::Nothing)
                }
            };
            entry.attempt = Uuid::new_v4();
            entry.journal.touched = platform::now();
            let value = encode(&entry);
            let put = Write::Put { key: Claim::key(upload.id), value: value.clone(), expect };
            match self.store.commit(vec![put]).await {
                Err(StoreError::Conflict { .. }) => {}
                taken => return taken.map(|_| Claim { entry, value }).map_err(Into::into),
            }
        }
    }

    /// The hash state of what is durable, and the end of it that is no whole piece.
    pub(super) async fn resume(&self, claim: &Claim) -> Result<(Hasher, Bytes), UploadError> {
        let mut hasher = Hasher::new();
        let whole = claim.committed() / PIECE as u64;
        let mut next = self.first(claim.entry.stream).await?;
        let end = next + whole;
        while next < end {
            let most = AHEAD.min((end - next) as usize);
            let records = self.store.read(&stream(claim.entry.stream), next, most).await?;
            next += records.len() as u64;
            if records.is_empty() {
                return Err(StoreError::Damaged(format!("{} is incomplete", claim.rest())).into());
            }
            let hashed = platform::blocking(move || {
                records.iter().for_each(|record| _ = hasher.update(&record.bytes));
                hasher
            });
            hasher = hashed.await.map_err(io::Error::other)?;
        }
        let rest = match claim.committed() % PIECE as u64 {
            0 => Bytes::new(),
            _ => self.store.get(&claim.rest()).await?.unwrap_or_default(),
        };
        hasher.update(&rest);
        Ok((hasher, rest))
    }

    async fn first(&self, id: Uuid) -> Result<u64, StoreError> {
        self.store.extent(&stream(id)).await.map(|extent| extent.first)
    }

    /// Makes these bytes durable. Returns those that are no whole piece.
    pub(super) async fn checkpoint(
        &self,
        claim: &Claim,
        upload: &Upload,
        pending: Vec<Bytes>,
        length: u64,
    ) -> Result<(Claim, Bytes), UploadError> {
        let (mut writes, rest) = appends(&claim.entry, pending);
        let entry = Entry { journal: Journal::new(upload, length), ..claim.entry.clone() };
        let value = encode(&entry);
        writes.push(Write::Put {
            key: Claim::key(upload.id),
            value: value.clone(),
            expect: claim.expected(),
        });
        writes.push(Write::Put { key: claim.rest(), value: rest.clone(), expect: Expect::Anything });
        superseded(self.store.commit(writes).await)?;
        Ok((Claim { entry, value }, rest))
    }

    /// Turns an upload into content, with its name. The caller has checked the bytes.
    pub(super) async fn finish(
        &self,
        claim: &Claim,
        upload: &Upload,
        pending: Vec<Bytes>,
    ) -> Result<(), UploadError> {
        let (mut writes, rest) = appends(&claim.entry, pending);
        if !rest.is_empty() {
            writes.push(claim.entry.append(rest));
        }
        let kept = Kept { stream: claim.entry.stream, named: 0 };
        writes.push(Write::Put { key: content(&upload.blob), value: encode(&kept), expect: Expect::Nothing });
        writes.extend(naming(upload));
        writes.extend(claim.forgetting(upload.id));
        match self.store.commit(writes).await {
            // Another upload of the same content was faster, or another attempt of this one.
            Err(StoreError::Conflict { .. }) if self.name_known(upload).await? => Ok(()),
            done => superseded(done),
        }
    }

    /// Names content, and ends the upload of it. Returns whether there is such content.
    pub(super) async fn name_known(&self, upload: &Upload) -> Result<bool, UploadError> {
        let key = content(&upload.blob);
        loop {
            let Some(value) = self.find(&upload.blob).await? else { return Ok(false) };
            let Kept { stream, named } = decode(&key, &value)?;
            let kept = encode(&Kept { stream, named: named + 1 });
            let mut writes = vec![Write::Put { key: key.clone(), value: kept, expect: Expect::Value(value) }];
            writes.extend(naming(upload));
            if let Some(claim) =
                self.claim(upload.id).await?.filter(|claim| claim.entry.journal.is_of(upload))
            {
                writes.extend(self.removing(upload.id, &claim).await?);
            }
            match self.store.commit(writes).await {
                Err(StoreError::Conflict { .. }) => {}
                named => return named.map(|_| true).map_err(Into::into),
            }
        }
    }

    /// Removes an upload, unless it has gone on.
    pub(super) async fn remove(&self, id: Uuid, claim: &Claim) -> Result<(), UploadError> {
        let removing = self.removing(id, claim).await?;
        match self.store.commit(removing).await {
            Err(StoreError::Conflict { .. }) => Ok(()),
            removed => removed.map(drop).map_err(Into::into),
        }
    }

    async fn removing(&self, id: Uuid, claim: &Claim) -> Result<Vec<Write>, StoreError> {
        let mut writes = claim.forgetting(id).to_vec();
        writes.extend(self.dropping(claim.entry.stream).await?);
        Ok(writes)
    }

    /// Forgets a stream, if it has begun.
    async fn dropping(&self, id: Uuid) -> Result<Option<Write>, StoreError> {
        let name = stream(id);
        let Extent { first, last, .. } = self.store.extent(&name).await?;
        Ok((first <= last).then_some(Write::Forget { stream: name, expect: last }))
    }

    /// Removes what did not go on for so long.
    pub(super) async fn sweep(&self, kept: Duration) -> Result<(), UploadError> {
        for (id, claim) in self.claims().await? {
            let Journal { touched, committed, .. } = claim.entry.journal;
            let age = platform::now().duration_since(touched).unwrap_or_default();
            if age >= if committed == 0 { kept.min(EMPTY_KEPT) } else { kept } {
                self.remove(id, &claim).await?;
            }
        }
        Ok(())
    }

    /// The entry of content, if there is such content.
    pub(super) async fn find(&self, blob: &Blob) -> Result<Option<Bytes>, StoreError> {
        self.store.get(&content(blob)).await
    }

    /// Removes content, unless its entry is another one by now: then it has a new name.
    pub(super) async fn remove_content(&self, blob: &Blob, found: Bytes) -> Result<bool, UploadError> {
        let key = content(blob);
        let Kept { stream, .. } = decode(&key, &found)?;
        let mut writes = vec![Write::Delete { key, expect: Expect::Value(found) }];
        writes.extend(self.dropping(stream).await?);
        match self.store.commit(writes).await {
            Err(StoreError::Conflict { .. }) => Ok(false),
            removed => removed.map(|_| true).map_err(Into::into),
        }
    }

    /// What all content takes.
    pub(super) async fn usage(&self) -> Result<Usage, StoreError> {
        let listed = self.store.list(CONTENT, "", usize::MAX).await?;
        let size = |key: &str| key.rsplit_once('-').and_then(|(_, size)| size.parse::<u64>().ok());
        let bytes = listed.iter().filter_map(|(key, _)| size(key)).fold(0, u64::saturating_add);
        Ok(Usage { count: listed.len() as u64, bytes })
    }

    /// Opens content. Blocks.
    pub(super) fn open(&self, blob: &Blob) -> Result<Option<Reader>, StoreError> {
        self.runtime.block_on(async {
            let key = content(blob);
            let Some(value) = self.find(blob).await? else { return Ok(None) };
            let Kept { stream, .. } = decode(&key, &value)?;
            let first = self.first(stream).await?;
            Ok(Some(Reader {
                pieces: self.clone(),
                stream,
                first,
                size: blob.size,
                at: 0,
                ahead: VecDeque::new(),
            }))
        })
    }
}

impl Entry {
    fn append(&self, record: Bytes) -> Write {
        Write::Append { stream: stream(self.stream), record, id: None, expect: None }
    }
}

impl Claim {
    fn forgetting(&self, id: Uuid) -> [Write; 2] {
        [
            Write::Delete { key: Self::key(id), expect: self.expected() },
            Write::Delete { key: self.rest(), expect: Expect::Anything },
        ]
    }
}

/// The whole pieces of these bytes, and what is left.
fn appends(entry: &Entry, pending: Vec<Bytes>) -> (Vec<Write>, Bytes) {
    let mut bytes = BytesMut::with_capacity(pending.iter().map(Bytes::len).sum());
    pending.iter().for_each(|part| bytes.extend_from_slice(part));
    let mut writes = Vec::with_capacity(bytes.len() / PIECE + 3);
    while bytes.len() >= PIECE {
        writes.push(entry.append(bytes.split_to(PIECE).freeze()));
    }
    (writes, bytes.freeze())
}

fn superseded<T>(done: Result<T, StoreError>) -> Result<(), UploadError> {
    match done {
        Err(StoreError::Conflict { .. }) => Err(UploadError::Superseded),
        done => done.map(drop).map_err(Into::into),
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pieces").field(&self.store).finish()
    }
}

/// Reads content from the store. Blocks. [`io::ErrorKind::NotFound`] when it was removed.
#[derive(Debug)]
pub struct Reader {
    pieces: Pieces,
    stream: Uuid,
    /// The sequence of the first piece.
    first: u64,
    size: u64,
    at: u64,
    ahead: VecDeque<Bytes>,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        if self.ahead.is_empty() {
            let (piece, skipped) = (self.at / PIECE as u64, (self.at % PIECE as u64) as usize);
            let read = self.pieces.store.read(&stream(self.stream), self.first + piece, AHEAD);
            let records = match self.pieces.runtime.block_on(read) {
                Err(StoreError::Trimmed { .. }) => return Err(io::ErrorKind::NotFound.into()),
                read => read.map_err(UploadError::from)?,
            };
            self.ahead = records.into_iter().map(|record| record.bytes).collect();
            match self.ahead.front_mut() {
                Some(bytes) if skipped < bytes.len() => bytes.advance(skipped),
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let Some(bytes) = self.ahead.front_mut() else { return Ok(0) };
        let length = bytes.len().min(buffer.len());
        bytes.copy_to_slice(&mut buffer[..length]);
        if bytes.is_empty() {
            self.ahead.pop_front();
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        self.ahead.clear();
        Ok(self.at)
    }
}

//! One attempt at an upload. What is received goes through a bounded queue to a task
//! that writes it. The task outlives the call, so that a call that is cut at any await
//! leaves the upload in a consistent state.

use std::{
    io::Write as _,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use blake3::Hasher;
use bytes::Bytes;
use tokio::{
    sync::{OwnedMutexGuard, OwnedSemaphorePermit, mpsc},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Journal, Lease, Medium, Slot, UploadError, Uploads, blocking, pieces::Claim};
use crate::{
    open_files::Place,
    platform::{self, File},
    store::{Expect, Write, encode},
};

/// How many chunks of one attempt may wait for the disk. The bytes of all attempts are
/// limited too.
const QUEUED_CHUNKS: usize = 16;
/// How many bytes of a chunk are queued at a time.
const PIECE: usize = 1 << 20;

/// Into a store, so much is written at a time.
const SHARED_CHECKPOINT: u64 = 1 << 20;

/// What was written becomes durable after this long, however little it is.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// The only writer of an upload. If it is dropped before [`finish`](Self::finish), the
/// upload can be resumed.
#[derive(Debug)]
pub struct Attempt {
    /// The offset at which the next chunk has to begin.
    pub(super) next: u64,
    slot: Arc<Slot>,
    uploads: Uploads,
    fence: CancellationToken,
    chunks: mpsc::Sender<Received>,
    writer: JoinHandle<Result<u64, UploadError>>,
}

#[derive(Debug)]
enum Received {
    /// With its permit for the queue.
    Chunk(Bytes, OwnedSemaphorePermit),
    Finish,
}

impl Attempt {
    pub(super) fn start(
        uploads: Uploads,
        slot: Arc<Slot>,
        lease: OwnedMutexGuard<Lease>,
        fence: CancellationToken,
        tail: Tail,
        place: Place,
    ) -> Self {
        let (chunks, received) = mpsc::channel(QUEUED_CHUNKS);
        let next = tail.length;
        let writer = Writer {
            uploads: uploads.clone(),
            slot: slot.clone(),
            lease,
            fence: fence.clone(),
            received,
            marked: tail.length,
            tail,
            shares: Vec::new(),
            checkpoint: None,
            due: Instant::now() + CHECKPOINT_INTERVAL,
            _place: place,
        };
        Self { next, slot, uploads, fence, chunks, writer: tokio::spawn(writer.run()) }
    }

    /// Takes the next chunk. Waits while too much is queued.
    pub async fn write(&mut self, offset: u64, mut chunk: Bytes) -> Result<(), UploadError> {
        let (expected, length) = (self.next, chunk.len() as u64);
        if offset != expected {
            return Err(UploadError::WrongOffset { offset, expected });
        }
        let declared = self.slot.upload.blob.size;
        if length > declared - expected {
            return Err(UploadError::TooLong(declared));
        }
        self.next += length;
        // In pieces, so that a long chunk waits for no more space than a short one.
        while !chunk.is_empty() {
            self.queue(chunk.split_to(chunk.len().min(PIECE))).await?;
        }
        Ok(())
    }

    async fn queue(&mut self, chunk: Bytes) -> Result<(), UploadError> {
        let (queue, chunks) = (self.uploads.0.queue.clone(), &self.chunks);
        let share = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        let queued = async {
            // The semaphore is never closed. If the writer has ended, it says why.
            let share = queue.acquire_many_owned(share).await.ok()?;
            chunks.send(Received::Chunk(chunk, share)).await.ok()
        };
        let queued = tokio::select! {
            biased;
            // Immediately, even if the writer waits for a slow disk.
            () = self.fence.cancelled() => return Err(UploadError::Superseded),
            queued = queued => queued,
        };
        match queued {
            Some(()) => Ok(()),
            None => Err(self.failure().await),
        }
    }

    /// Waits for the client. Fails when the attempt ends in the meantime, because
    /// another one has taken over or the disk has failed.
    pub async fn meanwhile<T>(&mut self, next: impl Future<Output = T>) -> Result<T, UploadError> {
        tokio::select! {
            biased;
            () = self.fence.cancelled() => Err(UploadError::Superseded),
            () = self.chunks.closed() => Err(self.failure().await),
            next = next => Ok(next),
        }
    }

    /// Why the writer has ended early.
    async fn failure(&mut self) -> UploadError {
        end_of(&mut self.writer).await.err().unwrap_or(UploadError::Superseded)
    }

    /// Commits the upload, and returns the size of the content, which is now durable.
    pub async fn finish(mut self) -> Result<u64, UploadError> {
        // Fails when the writer has ended, which then says why.
        let _ = self.chunks.send(Received::Finish).await;
        end_of(&mut self.writer).await
    }

    /// Ends without committing. Returns the durable size, at which the upload can be
    /// resumed.
    pub async fn pause(self) -> Result<u64, UploadError> {
        let Self { chunks, mut writer, .. } = self;
        drop(chunks);
        end_of(&mut writer).await
    }
}

async fn end_of(writer: &mut JoinHandle<Result<u64, UploadError>>) -> Result<u64, UploadError> {
    writer.await.map_err(std::io::Error::other)?
}

struct Writer {
    uploads: Uploads,
    slot: Arc<Slot>,
    lease: OwnedMutexGuard<Lease>,
    fence: CancellationToken,
    received: mpsc::Receiver<Received>,
    tail: Tail,
    /// The permits of bytes that wait for the store.
    shares: Vec<OwnedSemaphorePermit>,
    /// The length at the last checkpoint that was begun.
    marked: u64,
    checkpoint: Option<Checkpoint>,
    /// When to begin the next checkpoint, if there is anything new.
    due: Instant,
    _place: Place,
}

/// What has arrived of an upload.
pub(super) struct Tail {
    pub(super) kept: Kept,
    pub(super) length: u64,
    /// Of all bytes.
    pub(super) hasher: Hasher,
}

/// Where the bytes of an upload are.
pub(super) enum Kept {
    /// Open at its end.
    File(Arc<File>),
    /// In the store, all but those that wait.
    Pieces { claim: Claim, pending: Vec<Bytes> },
}

/// The first `length` bytes become durable while more is written after them, and then
/// the store is updated.
struct Checkpoint {
    length: u64,
    hasher: Hasher,
    /// With the right to go on, and the bytes that are no whole piece.
    done: JoinHandle<Done>,
}

type Done = Result<Option<(Claim, Bytes)>, UploadError>;

enum End {
    Paused,
    Finished,
}

impl Writer {
    async fn run(mut self) -> Result<u64, UploadError> {
        let ended = self.work().await;
        if let (Medium::Store(pieces), Kept::Pieces { claim, .. }) = (&self.uploads.0.medium, &self.tail.kept)
        {
            if self.tail.length == 0
                && let Err(error) = pieces.remove(self.slot.upload.id, claim).await
            {
                tracing::warn!(upload = %self.slot.upload, "it has nothing and stays for a while: {error}");
            }
            // The next attempt may be on another server.
            self.uploads.end(&self.slot, &mut self.lease);
        }
        ended
    }

    async fn work(&mut self) -> Result<u64, UploadError> {
        let ended = self.receive().await;
        // Waits for a checkpoint that has begun, whatever happened. After that, only
        // the next attempt changes the committed size.
        let settled = self.settle().await;
        match ended.and_then(|end| settled.map(|()| end)) {
            Ok(End::Finished) if self.tail.length == self.slot.upload.blob.size => self.commit().await,
            Ok(end) => {
                self.begin_checkpoint();
                self.settle().await?;
                let (length, declared) = (self.tail.length, self.slot.upload.blob.size);
                match end {
                    End::Finished => Err(UploadError::TooShort { length, declared }),
                    End::Paused => Ok(length),
                }
            }
            Err(error) => {
                self.give_back().await;
                Err(error)
            }
        }
    }

    /// Writes what is received until the end.
    async fn receive(&mut self) -> Result<End, UploadError> {
        let limit = self.uploads.0.limits.checkpoint;
        // Commits of others wait behind a checkpoint in the store, so it is small.
        let (most, chunks, is_shared) = match self.tail.kept {
            Kept::File(_) => (limit, QUEUED_CHUNKS, false),
            Kept::Pieces { .. } => (limit.min(SHARED_CHECKPOINT), 1, true),
        };
        loop {
            let is_due = self.tail.length - self.marked >= most;
            if is_due && self.checkpoint.is_none() {
                self.begin_checkpoint();
            }
            // A disk takes more meanwhile.
            let is_full = is_due && is_shared && self.checkpoint.is_some();
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                () = self.fence.cancelled() => return Err(UploadError::Superseded),
                done = settled(&mut self.checkpoint) => self.mark(done)?,
                () = sleep_until(self.due), if self.checkpoint.is_none() && self.tail.length > self.marked => {
                    self.begin_checkpoint();
                }
                count = self.received.recv_many(&mut batch, chunks), if !is_full => {
                    if count == 0 {
                        return Ok(End::Paused);
                    }
                    if self.append(batch).await? {
                        return Ok(End::Finished);
                    }
                }
            }
        }
    }

    /// Returns true at the end.
    async fn append(&mut self, batch: Vec<Received>) -> Result<bool, UploadError> {
        let mut finished = false;
        let (mut chunks, mut shares) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for received in batch {
            match received {
                Received::Chunk(chunk, share) => {
                    chunks.push(chunk);
                    shares.push(share);
                }
                Received::Finish => finished = true,
            }
        }
        let mut hasher = self.tail.hasher.clone();
        let file = match &self.tail.kept {
            Kept::File(file) => Some(file.clone()),
            Kept::Pieces { .. } => None,
        };
        let appended = blocking(move || {
            for chunk in &chunks {
                file.as_deref().map_or(Ok(()), |mut file| file.write_all(chunk))?;
                hasher.update(chunk);
            }
            Ok((chunks, shares, hasher))
        });
        let (chunks, shares, hasher) = appended.await?;
        self.tail.hasher = hasher;
        self.tail.length += chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        if let Kept::Pieces { pending, .. } = &mut self.tail.kept {
            pending.extend(chunks);
            self.shares.extend(shares);
        }
        Ok(finished)
    }

    fn begin_checkpoint(&mut self) {
        let Tail { kept, length, hasher } = &mut self.tail;
        let (uploads, slot, length) = (self.uploads.clone(), self.slot.clone(), *length);
        let done = match kept {
            Kept::File(file) => {
                let file = file.clone();
                tokio::spawn(async move {
                    let first = slot.committed.load(Relaxed) == 0;
                    if let Medium::Disk(disk) = &uploads.0.medium {
                        let disk = disk.clone();
                        blocking(move || disk.sync(&file, first)).await?;
                    }
                    let value = encode(&Journal::new(&slot.upload, length));
                    let entry = Write::Put { key: slot.key(), value, expect: Expect::Anything };
                    uploads.0.store.commit(vec![entry]).await?;
                    Ok(None)
                })
            }
            Kept::Pieces { claim, pending } => {
                let (claim, pending) = (claim.clone(), std::mem::take(pending));
                let shares = std::mem::take(&mut self.shares);
                tokio::spawn(async move {
                    let Medium::Store(pieces) = &uploads.0.medium else { return Ok(None) };
                    let done = pieces.checkpoint(&claim, &slot.upload, pending, length).await;
                    drop(shares);
                    done.map(Some)
                })
            }
        };
        self.checkpoint = Some(Checkpoint { length, hasher: hasher.clone(), done });
        self.marked = length;
        self.due = Instant::now() + CHECKPOINT_INTERVAL;
    }

    async fn settle(&mut self) -> Result<(), UploadError> {
        if self.checkpoint.is_none() {
            return Ok(());
        }
        let done = settled(&mut self.checkpoint).await;
        self.mark(done)
    }

    /// Records that a checkpoint is committed.
    fn mark(&mut self, done: Done) -> Result<(), UploadError> {
        if let Some(Checkpoint { length, hasher, .. }) = self.checkpoint.take() {
            if let (Some((next, rest)), Kept::Pieces { claim, pending }) = (done?, &mut self.tail.kept) {
                *claim = next;
                pending.insert(0, rest);
            }
            self.slot.committed.store(length, Relaxed);
            self.lease.hasher = Some(hasher);
            self.lease.touched = platform::now();
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<u64, UploadError> {
        let Slot { upload, .. } = &*self.slot;
        let (found, declared) = (self.tail.hasher.finalize(), upload.blob.hash());
        let wrong = (found != declared).then_some(UploadError::WrongChecksum { found, declared });
        let (uploads, blob) = (self.uploads.clone(), upload.blob);
        match (&uploads.0.medium, &mut self.tail.kept) {
            (Medium::Store(pieces), Kept::Pieces { claim, pending }) => match wrong {
                Some(wrong) => {
                    pieces.remove(upload.id, claim).await?;
                    return Err(wrong);
                }
                None => pieces.finish(claim, upload, std::mem::take(pending)).await?,
            },
            (Medium::Disk(disk), Kept::File(file)) => {
                if let Some(wrong) = wrong {
                    self.uploads.discard(&self.slot, &mut self.lease).await;
                    return Err(wrong);
                }
                let (disk, file, id) = (disk.clone(), file.clone(), upload.id);
                let _names = uploads.0.names.read().await;
                if let Err(error) = blocking(move || disk.commit(id, &file, &blob)).await {
                    self.give_back().await;
                    return Err(error);
                }
                // From here on the content is found by its checksum. If the store fails now,
                // the next attempt gives the content its name.
                self.uploads.end(&self.slot, &mut self.lease);
                self.uploads.give_name(upload, vec![self.slot.forgetting()]).await?;
            }
            _ => {}
        }
        Ok(blob.size)
    }

    /// Frees the space of uncommitted bytes. If that fails, the next attempt does it.
    async fn give_back(&mut self) {
        let (uploads, slot) = (&self.uploads, &self.slot);
        let Medium::Disk(disk) = &uploads.0.medium else { return };
        let given_back = async {
            let committed = uploads.committed(slot, &mut self.lease).await?;
            let (disk, id) = (disk.clone(), slot.upload.id);
            blocking(move || disk.cut(id, committed)).await
        };
        if let Err(error) = given_back.await {
            tracing::warn!(upload = %slot.upload, "its end cannot be cut off: {error}");
        }
    }
}

async fn settled(checkpoint: &mut Option<Checkpoint>) -> Done {
    match checkpoint {
        Some(checkpoint) => (&mut checkpoint.done).await.map_err(std::io::Error::other)?,
        None => std::future::pending().await,
    }
}

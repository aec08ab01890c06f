//! One attempt at an upload. What is received goes through a bounded queue to a task
//! that writes it. The task outlives the call, so that a call that is cut at any await
//! leaves the upload in a consistent state.

use std::{
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

use super::{Journal, Lease, Slot, UploadError, Uploads, blocking, disk::Tail};
use crate::{
    open_files::Place,
    platform,
    store::{Expect, Write, encode},
};

/// How many chunks of one attempt may wait for the disk. The bytes of all attempts are
/// limited too.
const QUEUED_CHUNKS: usize = 16;
/// How many bytes of a chunk are queued at a time.
const PIECE: usize = 1 << 20;

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
    /// The length at the last checkpoint that was begun.
    marked: u64,
    checkpoint: Option<Checkpoint>,
    /// When to begin the next checkpoint, if there is anything new.
    due: Instant,
    _place: Place,
}

/// An fsync of the first `length` bytes of the file while more is written after them,
/// and then the update of the store.
struct Checkpoint {
    length: u64,
    hasher: Hasher,
    done: JoinHandle<Result<(), UploadError>>,
}

enum End {
    Paused,
    Finished,
}

impl Writer {
    async fn run(mut self) -> Result<u64, UploadError> {
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
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                () = self.fence.cancelled() => return Err(UploadError::Superseded),
                done = settled(&mut self.checkpoint) => self.mark(done)?,
                () = sleep_until(self.due), if self.checkpoint.is_none() && self.tail.length > self.marked => {
                    self.begin_checkpoint();
                }
                count = self.received.recv_many(&mut batch, QUEUED_CHUNKS) => {
                    if count == 0 {
                        return Ok(End::Paused);
                    }
                    if self.append(batch).await? {
                        return Ok(End::Finished);
                    }
                    let unmarked = self.tail.length - self.marked;
                    if self.checkpoint.is_none() && unmarked >= self.uploads.0.limits.checkpoint {
                        self.begin_checkpoint();
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
        let Tail { file, length, hasher } = &self.tail;
        let tail = Tail { file: file.clone(), length: *length, hasher: hasher.clone() };
        self.tail = blocking(move || {
            let tail = tail.append(&chunks);
            drop(shares);
            tail
        })
        .await?;
        Ok(finished)
    }

    fn begin_checkpoint(&mut self) {
        let Tail { file, length, hasher } = &self.tail;
        let (file, length) = (file.clone(), *length);
        let (uploads, slot) = (self.uploads.clone(), self.slot.clone());
        let done = tokio::spawn(async move {
            let (shared, first) = (uploads.0.clone(), slot.committed.load(Relaxed) == 0);
            blocking(move || shared.disk.sync(&file, first)).await?;
            let journal = Journal {
                blob: slot.upload.blob,
                name: slot.upload.name.clone(),
                committed: length,
                touched: platform::now(),
            };
            let entry = Write::Put { key: slot.key(), value: encode(&journal), expect: Expect::Anything };
            uploads.0.store.commit(vec![entry]).await?;
            Ok(())
        });
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
    fn mark(&mut self, done: Result<(), UploadError>) -> Result<(), UploadError> {
        if let Some(Checkpoint { length, hasher, .. }) = self.checkpoint.take() {
            done?;
            self.slot.committed.store(length, Relaxed);
            self.lease.hasher = Some(hasher);
            self.lease.touched = platform::now();
        }
        Ok(())
    }

    async fn commit(mut self) -> Result<u64, UploadError> {
        let Slot { upload, .. } = &*self.slot;
        let (found, declared) = (self.tail.hasher.finalize(), upload.blob.hash());
        if found != declared {
            self.uploads.discard(&self.slot, &mut self.lease).await;
            return Err(UploadError::WrongChecksum { found, declared });
        }
        let (shared, file) = (self.uploads.0.clone(), self.tail.file.clone());
        let (id, blob) = (upload.id, upload.blob);
        let uploads = self.uploads.clone();
        let _names = uploads.0.names.read().await;
        if let Err(error) = blocking(move || shared.disk.commit(id, &file, &blob)).await {
            self.give_back().await;
            return Err(error);
        }
        // From here on the content is found by its checksum. If the store fails now,
        // the next attempt gives the content its name.
        self.uploads.end(&self.slot, &mut self.lease);
        self.uploads.give_name(upload, vec![self.slot.forgetting()]).await?;
        Ok(blob.size)
    }

    /// Frees the space of uncommitted bytes. If that fails, the next attempt does it.
    async fn give_back(&mut self) {
        let (uploads, slot) = (&self.uploads, &self.slot);
        let given_back = async {
            let committed = uploads.committed(slot, &mut self.lease).await?;
            let (shared, id) = (uploads.0.clone(), slot.upload.id);
            blocking(move || shared.disk.cut(id, committed)).await
        };
        if let Err(error) = given_back.await {
            tracing::warn!(upload = %slot.upload, "its end cannot be cut off: {error}");
        }
    }
}

async fn settled(checkpoint: &mut Option<Checkpoint>) -> Result<(), UploadError> {
    match checkpoint {
        Some(checkpoint) => (&mut checkpoint.done).await.map_err(std::io::Error::other)?,
        None => std::future::pending().await,
    }
}

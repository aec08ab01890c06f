//! The guarantees of an upload and a machine to check them on, for the tests and for
//! the fuzz target.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::{Attempt, Begun, Journal, Progress, UploadError, UploadLimits, Uploads};
use crate::{
    platform,
    resources::{Blob, Source, Upload},
    store::{Memory, Store, decode},
};

pub(super) const LIMITS: UploadLimits = UploadLimits {
    size: 1 << 20,
    partials: 4,
    kept: Duration::from_secs(3600),
    checkpoint: 64,
    files: 1000,
    content: 1 << 30,
};

/// Records the length of a file that is about to become durable.
pub(super) fn syncs(partial: &Path, file: &fs::File) -> io::Result<()> {
    call(partial)?;
    fs::write(partial.with_file_name("synced"), file.metadata()?.len().to_string())
}

pub(super) fn rename(from: PathBuf, to: PathBuf) -> io::Result<()> {
    call(from.parent().unwrap())?;
    platform::rename(from, to)
}

/// Records which names are in the directory: a crash leaves these and no others.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    call(directory)?;
    fs::write(noted(directory), names(directory).join("\n"))
}

pub(super) fn noted(directory: &Path) -> PathBuf {
    directory.with_extension("names")
}

pub(super) fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Fails after as many calls as the test wants, or from then on.
fn call(directory: &Path) -> io::Result<()> {
    let failing = directory.with_file_name("fail-sync");
    let Ok(left) = fs::read_to_string(&failing) else { return Ok(()) };
    match left.parse::<u32>() {
        Ok(0) => fs::remove_file(failing)?,
        Ok(left) => return fs::write(failing, (left - 1).to_string()),
        Err(_) => {}
    }
    Err(io::Error::other("the test wants it"))
}

/// What remains of a server that is not running.
pub(super) struct Machine {
    pub(super) store: Arc<dyn Store>,
    pub(super) files: TempDir,
    pub(super) limits: UploadLimits,
    /// Whether all is in the store.
    pub(super) is_shared: bool,
}

impl Machine {
    pub(super) fn new() -> Self {
        let (store, files) = (Arc::new(Memory::default()), tempfile::tempdir().unwrap());
        Self { store, files, limits: LIMITS, is_shared: false }
    }

    pub(super) fn shared() -> Self {
        Self { is_shared: true, ..Self::new() }
    }

    pub(super) async fn start(&self) -> Uploads {
        let (store, files) = (self.store.clone(), crate::open_files::OpenFiles::new(99));
        match self.is_shared {
            true => Uploads::share(store, self.limits, files).await,
            false => Uploads::open(store, self.files.path(), self.limits, files).await.unwrap(),
        }
    }

    pub(super) fn partial(&self, upload: &Upload) -> PathBuf {
        self.files.path().join("partial").join(upload.id.to_string())
    }

    async fn journaled(&self, upload: &Upload) -> u64 {
        let key = format!("upload/{}", upload.id);
        let entry = self.store.get(&key).await.unwrap();
        entry.map_or(0, |entry| decode::<Journal>(&key, &entry).unwrap().committed)
    }
}

pub(super) fn content(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

pub(super) fn upload(content: &[u8], name: &str) -> Upload {
    let blob = Blob::new(blake3::hash(content), content.len() as u64);
    Upload { id: Uuid::new_v4(), blob, name: Some(name.to_owned()) }
}

pub(super) async fn read(uploads: &Uploads, name: &str) -> Option<Vec<u8>> {
    let blob = uploads.find(&Source::File(name.to_owned())).await.ok()?;
    Some(bytes(uploads, blob).await)
}

pub(super) async fn bytes(uploads: &Uploads, blob: Blob) -> Vec<u8> {
    let uploads = uploads.clone();
    let read = platform::blocking(move || {
        let mut bytes = Vec::new();
        uploads.open_blob(&blob).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    });
    read.await.unwrap()
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    /// Asks for the committed size, and takes over.
    Begin,
    /// Sends the next bytes; wrong ones if `lie` is set.
    Write {
        length: usize,
        lie: bool,
    },
    /// Cuts the call of the current attempt.
    Cut,
    HalfClose,
    Finish,
    /// An attempt that was fenced off still writes.
    Zombie {
        length: usize,
    },
    /// The machine loses all or part of what was not durable.
    Crash {
        tail: usize,
        garbage: u8,
    },
}

/// What has to hold, whatever happens.
struct Model {
    content: Vec<u8>,
    upload: Upload,
    /// The largest size that the server has ever reported as durable.
    durable: u64,
    /// Whether wrong bytes were sent since the upload began.
    lied: bool,
    done: bool,
}

struct Run {
    machine: Machine,
    model: Model,
    uploads: Uploads,
    current: Option<Attempt>,
    fenced: Vec<Attempt>,
}

impl Run {
    async fn new(machine: Machine, size: usize) -> Self {
        let content = content(7, size);
        let upload = upload(&content, "a");
        let uploads = machine.start().await;
        let model = Model { content, upload, durable: 0, lied: false, done: false };
        Self { machine, model, uploads, current: None, fenced: Vec::new() }
    }

    /// The server must not report less than it did before.
    async fn check(&mut self) -> u64 {
        let progress = match self.uploads.progress(&self.model.upload).await {
            Ok(progress) => progress,
            Err(UploadError::NotFound(..)) => Progress { committed: 0, complete: false },
            Err(error) => panic!("{error}"),
        };
        assert!(progress.committed >= self.model.durable, "{progress:?} after {}", self.model.durable);
        assert_eq!(progress.complete, self.model.done);
        match read(&self.uploads, "a").await {
            Some(bytes) => assert!(self.model.done && bytes == self.model.content),
            None => assert!(!self.model.done, "the content is gone"),
        }
        self.model.durable = progress.committed;
        progress.committed
    }

    async fn begin(&mut self) {
        let mut offset = self.check().await;
        loop {
            match self.uploads.begin(self.model.upload.clone(), offset).await {
                Ok(Begun::Attempt(attempt)) => {
                    assert!(!self.model.done);
                    self.fenced.extend(self.current.replace(attempt));
                    return;
                }
                Ok(Begun::Known) => return assert!(self.model.done),
                // The previous attempt got further before it was fenced off. From now
                // on the offset stays.
                Err(UploadError::NotCommittedSize { committed, .. }) => {
                    assert!(committed > offset, "{committed} after {offset}");
                    assert!(self.current.is_some() || offset == self.model.durable);
                    self.fenced.extend(self.current.take());
                    offset = committed;
                    self.model.durable = committed;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn write(&mut self, length: usize, lie: bool) {
        let Some(attempt) = &mut self.current else { return };
        let from = attempt.next as usize;
        let to = (from + length).min(self.model.content.len());
        let mut bytes = self.model.content[from..to].to_vec();
        if lie && to > from {
            bytes[0] ^= 1;
            self.model.lied = true;
        }
        attempt.write(from as u64, bytes.into()).await.unwrap();
    }

    async fn finish(&mut self) {
        let Some(attempt) = self.current.take() else { return };
        let (next, size) = (attempt.next, self.model.content.len() as u64);
        match attempt.finish().await {
            Ok(committed) => {
                assert_eq!((committed, next), (size, size));
                self.model.done = true;
            }
            Err(UploadError::TooShort { length, .. }) => assert!(length == next && next < size),
            Err(UploadError::WrongChecksum { .. }) => {
                assert!(self.model.lied && next == size);
                (self.model.durable, self.model.lied) = (0, false);
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn zombie(&mut self, length: usize) {
        let Some(mut attempt) = self.fenced.pop() else { return };
        let refused = attempt.write(attempt.next, Bytes::from(vec![9; length])).await;
        let is_stopped = matches!(refused, Err(UploadError::Superseded | UploadError::TooLong(_)));
        // One of another server learns it when it writes.
        assert!(is_stopped || self.machine.is_shared, "{refused:?}");
        if is_stopped && self.machine.is_shared {
            return;
        }
        let ended = attempt.finish().await;
        match &ended {
            Err(UploadError::Superseded) => {}
            // What it had was all of it, and had become content.
            Ok(_) => assert!(self.machine.is_shared && self.model.done, "{ended:?}"),
            Err(UploadError::WrongChecksum { .. }) => assert!(self.machine.is_shared, "{ended:?}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// A crash may leave anything after the durable part.
    async fn crashed(machine: &Machine, model: &mut Model, tail: usize, garbage: u8) {
        let journaled = machine.journaled(&model.upload).await;
        assert!(model.done || journaled >= model.durable);
        let synced = fs::read_to_string(machine.files.path().join("synced"));
        let synced = synced.map_or(0, |length| length.parse().unwrap());
        assert!(journaled <= synced, "{journaled} were promised, and {synced} are durable");
        let path = machine.partial(&model.upload);
        if let Ok(mut bytes) = fs::read(&path) {
            assert!(bytes.len() as u64 >= journaled);
            bytes.truncate(journaled as usize);
            bytes.resize(journaled as usize + tail, garbage);
            fs::write(&path, bytes).unwrap();
        }
    }

    async fn apply(&mut self, op: &Op) {
        match *op {
            Op::Begin => self.begin().await,
            Op::Write { length, lie } => self.write(length, lie).await,
            Op::Cut => drop(self.current.take()),
            Op::HalfClose => {
                if let Some(attempt) = self.current.take() {
                    let next = attempt.next;
                    assert_eq!(attempt.pause().await.unwrap(), next);
                    assert_eq!(self.check().await, next);
                }
            }
            Op::Finish => self.finish().await,
            Op::Zombie { length } => self.zombie(length).await,
            Op::Crash { .. } => unreachable!("is the runtime's"),
        }
        self.check().await;
    }

    /// Every upload can be completed in the end.
    async fn complete(&mut self) {
        while !self.model.done {
            self.begin().await;
            self.write(usize::MAX / 2, false).await;
            self.finish().await;
            self.check().await;
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs the operations one after the other, and then completes the upload.
pub(super) fn run(machine: Machine, size: usize, ops: &[Op]) {
    let mut on = runtime();
    let mut run = on.block_on(Run::new(machine, size));
    for op in ops {
        if matches!(op, Op::Crash { .. }) && run.machine.is_shared {
            on.block_on(async {
                run.uploads = run.machine.start().await;
                run.begin().await;
            });
        } else if let Op::Crash { tail, garbage } = *op {
            let Run { machine, mut model, .. } = run;
            // Drops every task at its await, and waits for threads.
            drop(on);
            on = runtime();
            run = on.block_on(async {
                Run::crashed(&machine, &mut model, tail, garbage).await;
                let uploads = machine.start().await;
                Run { machine, model, uploads, current: None, fenced: Vec::new() }
            });
            on.block_on(run.check());
        } else {
            on.block_on(run.apply(op));
        }
    }
    on.block_on(run.complete());
}

/// [`run`] with its input decoded from bytes: a size, whose first bit says where the bytes
/// are, and then three bytes for each operation.
#[cfg(feature = "fuzzing")]
pub fn fuzzed(bytes: &[u8]) {
    let Some((size, ops)) = bytes.split_first_chunk() else { return };
    let ops = ops.as_chunks().0.iter().take(40).map(|&[kind, amount, with]| {
        let length = 1 + usize::from(amount) % 149;
        match kind % 16 {
            0..3 => Op::Begin,
            3..9 => Op::Write { length, lie: with > 0xf0 },
            9 => Op::Cut,
            10 => Op::HalfClose,
            11..13 => Op::Finish,
            13..15 => Op::Zombie { length },
            _ => Op::Crash { tail: usize::from(amount), garbage: with },
        }
    });
    let machine = if size[0] & 0x80 == 0 { Machine::new() } else { Machine::shared() };
    run(machine, usize::from(u16::from_be_bytes(*size)) % 600, &ops.collect::<Vec<_>>());
}

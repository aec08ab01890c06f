//! A machine that is simulated, with turmoil's file system: what was not synced
//! is lost when it crashes. Everything happens on the thread of the simulation.

#![allow(missing_docs, clippy::missing_errors_doc, reason = "for one test")]

use std::{
    cell::Cell,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use tokio::{sync::mpsc::UnboundedReceiver, task::JoinError};
use turmoil::fs::shim::std::fs;

/// What a disk says is synced, and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    Files,
    Directories,
}

thread_local! {
    /// How much more may be written before the power fails.
    static POWER: Cell<Option<u64>> = const { Cell::new(None) };
    /// After how many writes one fails.
    static FAULT: Cell<Option<u64>> = const { Cell::new(None) };
    static LIE: Cell<Option<Lie>> = const { Cell::new(None) };
}

/// From the given number of writes on nothing reaches the disk and nothing comes
/// back from it.
pub fn fail_power_after(writes: u64) {
    POWER.set(Some(writes));
}

/// After the given number of writes one comes back with an error. What a sync did not
/// write is written by the next one.
pub fn fail_write_after(writes: u64) {
    FAULT.set(Some(writes));
}

pub fn power_has_failed() -> bool {
    POWER.get() == Some(0)
}

pub fn restore_power() {
    POWER.set(None);
    FAULT.set(None);
}

pub fn lie_about(what: Option<Lie>) {
    LIE.set(what);
}

fn reading() -> io::Result<()> {
    match POWER.get() {
        Some(0) => Err(io::Error::other("the power has failed")),
        _ => Ok(()),
    }
}

fn writing() -> io::Result<()> {
    reading()?;
    POWER.set(POWER.get().map(|left| left - 1));
    let fault = FAULT.get();
    FAULT.set(fault.and_then(|left| left.checked_sub(1)));
    match fault {
        Some(0) => Err(io::Error::other("the disk does not answer")),
        _ => Ok(()),
    }
}

pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + turmoil::since_epoch().unwrap_or_default()
}

/// What a disk takes, in simulated time.
async fn disk_time() {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(..4))).await;
}

pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    disk_time().await;
    Ok(work())
}

pub fn worker<T: Send + 'static>(
    _name: &str,
    most: usize,
    mut queue: UnboundedReceiver<T>,
    mut work: impl FnMut(Vec<T>) + Send + 'static,
) -> io::Result<()> {
    tokio::spawn(async move {
        loop {
            let mut batch = Vec::new();
            if queue.recv_many(&mut batch, most).await == 0 {
                return;
            }
            disk_time().await;
            work(batch);
        }
    });
    Ok(())
}

/// A simulated machine has one server only.
pub struct Lock;

pub fn lock(_: &Path) -> io::Result<Option<Lock>> {
    Ok(Some(Lock))
}

#[derive(Debug)]
pub struct File {
    file: fs::File,
    position: AtomicU64,
}

pub struct OpenOptions(fs::OpenOptions);

impl OpenOptions {
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.0.read(read);
        self
    }

    pub fn write(&mut self, write: bool) -> &mut Self {
        self.0.write(write);
        self
    }

    pub fn create(&mut self, create: bool) -> &mut Self {
        self.0.create(create);
        self
    }

    pub fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.0.truncate(truncate);
        self
    }

    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        reading()?;
        Ok(File { file: self.0.open(path)?, position: AtomicU64::new(0) })
    }
}

impl File {
    pub fn options() -> OpenOptions {
        OpenOptions(fs::OpenOptions::new())
    }

    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().read(true).open(path)
    }

    pub fn metadata(&self) -> io::Result<fs::Metadata> {
        reading()?;
        self.file.metadata()
    }

    pub fn set_len(&self, length: u64) -> io::Result<()> {
        writing()?;
        self.file.set_len(length)
    }

    pub fn sync_data(&self) -> io::Result<()> {
        writing()?;
        if LIE.get() == Some(Lie::Files) { Ok(()) } else { self.file.sync_data() }
    }

    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        reading()?;
        self.file.read_exact_at(buffer, offset)
    }

    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        writing()?;
        self.file.write_all_at(bytes, offset)
    }
}

impl Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        reading()?;
        let read = self.file.read_at(buffer, self.position.load(Relaxed))?;
        self.position.fetch_add(read as u64, Relaxed);
        Ok(read)
    }
}

impl Write for &File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        writing()?;
        let written = self.file.write_at(bytes, self.position.load(Relaxed))?;
        self.position.fetch_add(written as u64, Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(position) => *self.position.get_mut() = position,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(*self.position.get_mut())
    }
}

pub fn create_dir(path: &Path) -> io::Result<()> {
    writing()?;
    // turmoil gives no kind for these.
    match path.parent() {
        _ if fs::exists(path) => Err(io::ErrorKind::AlreadyExists.into()),
        Some(parent) if !fs::exists(parent) => Err(io::ErrorKind::NotFound.into()),
        _ => fs::create_dir(path),
    }
}

pub fn metadata(path: impl AsRef<Path>) -> io::Result<fs::Metadata> {
    reading()?;
    fs::metadata(path)
}

pub fn read_dir(path: impl AsRef<Path>) -> io::Result<fs::ReadDir> {
    reading()?;
    fs::read_dir(path)
}

/// Lasts at once. turmoil knows a file by its path: a removal that it makes
/// durable later takes along what was synced in a new file of the same name.
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    writing()?;
    fs::remove_file(&path)?;
    fs::sync_dir(directory_of(path.as_ref()))
}

pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    writing()?;
    fs::rename(from, to)
}

pub fn sync_directory(directory: &Path) -> io::Result<()> {
    writing()?;
    if LIE.get() == Some(Lie::Directories) { Ok(()) } else { fs::sync_dir(directory) }
}

pub fn sync_directory_of(file: &Path) -> io::Result<()> {
    sync_directory(directory_of(file))
}

fn directory_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}

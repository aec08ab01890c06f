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

use redb::{Builder, Database, DatabaseError, StorageBackend};
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
    static LIE: Cell<Option<Lie>> = const { Cell::new(None) };
}

/// From the given number of writes on nothing reaches the disk and nothing comes
/// back from it.
pub fn fail_power_after(writes: u64) {
    POWER.set(Some(writes));
}

pub fn power_has_failed() -> bool {
    POWER.get() == Some(0)
}

pub fn restore_power() {
    POWER.set(None);
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
    Ok(())
}

pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + turmoil::since_epoch().unwrap_or_default()
}

/// What a disk takes, in simulated time.
async fn disk_time() {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(..4))).await;
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    disk_time().await;
    Ok(work())
}

pub(crate) fn worker<T: Send + 'static>(
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
pub(crate) struct Lock;

pub(crate) fn lock(_: &Path) -> io::Result<Option<Lock>> {
    Ok(Some(Lock))
}

#[derive(Debug)]
pub(crate) struct File {
    file: fs::File,
    position: AtomicU64,
}

pub(crate) struct OpenOptions(fs::OpenOptions);

impl OpenOptions {
    pub(crate) fn read(&mut self, read: bool) -> &mut Self {
        self.0.read(read);
        self
    }

    pub(crate) fn write(&mut self, write: bool) -> &mut Self {
        self.0.write(write);
        self
    }

    pub(crate) fn create(&mut self, create: bool) -> &mut Self {
        self.0.create(create);
        self
    }

    pub(crate) fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.0.truncate(truncate);
        self
    }

    pub(crate) fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        reading()?;
        Ok(File { file: self.0.open(path)?, position: AtomicU64::new(0) })
    }
}

impl File {
    pub(crate) fn options() -> OpenOptions {
        OpenOptions(fs::OpenOptions::new())
    }

    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().read(true).open(path)
    }

    pub(crate) fn metadata(&self) -> io::Result<fs::Metadata> {
        reading()?;
        self.file.metadata()
    }

    pub(crate) fn set_len(&self, length: u64) -> io::Result<()> {
        writing()?;
        self.file.set_len(length)
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        writing()?;
        if LIE.get() == Some(Lie::Files) { Ok(()) } else { self.file.sync_data() }
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

pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    writing()?;
    fs::create_dir_all(path)
}

pub(crate) fn metadata(path: impl AsRef<Path>) -> io::Result<fs::Metadata> {
    reading()?;
    fs::metadata(path)
}

pub(crate) fn read_dir(path: impl AsRef<Path>) -> io::Result<fs::ReadDir> {
    reading()?;
    fs::read_dir(path)
}

/// Lasts at once. turmoil knows a file by its path: a removal that it makes
/// durable later takes along what was synced in a new file of the same name.
pub(crate) fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    writing()?;
    fs::remove_file(&path)?;
    fs::sync_dir(directory_of(path.as_ref()))
}

pub(crate) fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    writing()?;
    fs::rename(from, to)
}

pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    writing()?;
    if LIE.get() == Some(Lie::Directories) { Ok(()) } else { fs::sync_dir(directory) }
}

pub(crate) fn sync_directory_of(file: &Path) -> io::Result<()> {
    sync_directory(directory_of(file))
}

fn directory_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}

pub(crate) fn create_database(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    let file = File::options().read(true).write(true).create(true).open(path)?;
    builder.create_with_backend(Pages(file))
}

pub(crate) fn open_database(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    let file = File::options().read(true).write(true).open(path)?;
    builder.create_with_backend(Pages(file))
}

#[derive(Debug)]
struct Pages(File);

impl StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        reading()?;
        self.0.file.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        writing()?;
        self.0.file.write_all_at(bytes, offset)
    }
}

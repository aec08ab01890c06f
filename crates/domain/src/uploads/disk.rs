//! The files behind uploads and content. All of it blocks.
//!
//! Content stands under its checksum only when it is whole: it is checked and
//! fsynced, then renamed, then the directory is fsynced.

use std::{
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use blake3::Hasher;
use bytes::Bytes;
use uuid::Uuid;

use crate::{
    platform::{self as fs, File, sync_directory},
    resources::Blob,
};

/// Two directories. What is in `blobs` is whole and has the checksum that its
/// name says; what is in `partial` may end in anything.
#[derive(Debug)]
pub(super) struct Disk {
    partial: PathBuf,
    blobs: PathBuf,
}

/// An upload's file, open at its end.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) file: Arc<File>,
    pub(super) length: u64,
    /// Of all bytes of the file.
    pub(super) hasher: Hasher,
}

impl Disk {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let disk = Self { partial: directory.join("partial"), blobs: directory.join("blobs") };
        fs::create_dir_all(&disk.partial)?;
        fs::create_dir_all(&disk.blobs)?;
        sync_directory(directory)?;
        Ok(disk)
    }

    /// Made of what was parsed, never of what a peer wrote.
    fn partial(&self, id: Uuid) -> PathBuf {
        self.partial.join(id.hyphenated().to_string())
    }

    fn blob(&self, blob: &Blob) -> PathBuf {
        self.blobs.join(format!("{}-{}", blob.hash(), blob.size))
    }

    pub(super) fn has(&self, blob: &Blob) -> io::Result<bool> {
        match fs::metadata(self.blob(blob)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn read(&self, blob: &Blob) -> io::Result<File> {
        File::open(self.blob(blob))
    }

    /// Opens an upload's file, created if need be, and cuts it to the length
    /// that is known to be durable. `hasher` has seen these bytes; without it
    /// they are read again.
    ///
    /// What was cut off is gone from the page cache too, so an earlier failure
    /// to write it back does not matter to the next fsync. `None` when bytes
    /// are gone that were durable.
    pub(super) fn resume(&self, id: Uuid, length: u64, hasher: Option<Hasher>) -> io::Result<Option<Tail>> {
        let options = &mut File::options();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(self.partial(id))?;
        match file.metadata()?.len() {
            shorter if shorter < length => return Ok(None),
            longer if longer > length => file.set_len(length)?,
            _ => {}
        }
        let hasher = match hasher {
            Some(hasher) => hasher,
            None => {
                let mut hasher = Hasher::new();
                hasher.update_reader((&file).take(length))?;
                hasher
            }
        };
        if length > 0 {
            file.seek(SeekFrom::Start(length))?;
        }
        Ok(Some(Tail { file: Arc::new(file), length, hasher }))
    }

    /// Makes what was written durable, and with the first part of a file also
    /// that there is such a file.
    pub(super) fn sync(&self, file: &File, first: bool) -> io::Result<()> {
        #[cfg(any(test, feature = "fuzzing"))]
        super::model::syncs(&self.partial, file)?;
        file.sync_data()?;
        if first { sync_directory(&self.partial) } else { Ok(()) }
    }

    /// Gives the bytes back that are not known to be durable.
    pub(super) fn cut(&self, id: Uuid, length: u64) -> io::Result<()> {
        File::options().write(true).open(self.partial(id))?.set_len(length)
    }

    pub(super) fn remove(&self, id: Uuid) -> io::Result<()> {
        match fs::remove_file(self.partial(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Turns an upload's file into content. The caller has checked the bytes.
    pub(super) fn commit(&self, id: Uuid, file: &File, blob: &Blob) -> io::Result<()> {
        self.sync(file, false)?;
        fs::rename(self.partial(id), self.blob(blob))?;
        if let Err(error) = self.sync_blobs() {
            // Whoever asks must not be told that it is there: it may not be
            // after a crash.
            fs::remove_file(self.blob(blob))?;
            return Err(error);
        }
        sync_directory(&self.partial)
    }

    pub(super) fn sync_blobs(&self) -> io::Result<()> {
        sync_directory(&self.blobs)
    }

    /// How long an upload's file is; `None` when there is none.
    pub(super) fn length(&self, id: Uuid) -> Option<u64> {
        fs::metadata(self.partial(id)).ok().map(|file| file.len())
    }

    /// Removes the files of uploads that nobody knows.
    pub(super) fn remove_unknown(&self, is_known: impl Fn(Uuid) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.partial)? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| Uuid::try_parse(name).ok());
            if !id.is_some_and(&is_known) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Tail {
    pub(super) fn append(mut self, chunks: &[Bytes]) -> io::Result<Self> {
        for chunk in chunks {
            (&*self.file).write_all(chunk)?;
            self.hasher.update(chunk);
            self.length += chunk.len() as u64;
        }
        Ok(self)
    }
}

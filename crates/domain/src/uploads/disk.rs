//! The files behind uploads and content. All of it blocks.
//!
//! Content stands under its checksum only when it is whole: it is checked and
//! fsynced, then renamed, then the directory is fsynced. Nobody finds content
//! before the last step, and no failure removes content: another upload may have
//! committed the same.

use std::{
    collections::HashSet,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use blake3::Hasher;
use uuid::Uuid;

// A test lets them fail.
#[cfg(any(test, feature = "fuzzing"))]
use super::model::{rename, sync_directory};
#[cfg(not(any(test, feature = "fuzzing")))]
use crate::platform::{rename, sync_directory};
use crate::{
    feed::Usage,
    lock,
    platform::{self as fs, File},
    resources::Blob,
};

const FOLDERS: [&str; 2] = ["partial", "blobs"];

/// Whether there are uploads or content of an earlier run in a directory.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn has_files(directory: &Path) -> io::Result<bool> {
    for folder in FOLDERS {
        match fs::read_dir(directory.join(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            entries => {
                if entries?.next().is_some() {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Two directories. What is in `blobs` is whole and has the checksum that its
/// name says; what is in `partial` may end in anything.
#[derive(Debug)]
pub(super) struct Disk {
    partial: PathBuf,
    blobs: PathBuf,
    /// Content that was renamed, and whose name may not be on the disk yet.
    unsynced: Mutex<HashSet<Blob>>,
}

impl Disk {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let [partial, blobs] = FOLDERS.map(|folder| directory.join(folder));
        fs::create_dir_all(&partial)?;
        fs::create_dir_all(&blobs)?;
        // An earlier run may have ended between a rename and this.
        sync_directory(&blobs)?;
        Ok(Self { partial, blobs, unsynced: Mutex::default() })
    }

    /// Made of what was parsed, never of what a peer wrote.
    fn partial(&self, id: Uuid) -> PathBuf {
        self.partial.join(id.hyphenated().to_string())
    }

    fn blob(&self, blob: &Blob) -> PathBuf {
        self.blobs.join(format!("{}-{}", blob.hash(), blob.size))
    }

    /// Whether content is there for good.
    pub(super) fn has(&self, blob: &Blob) -> io::Result<bool> {
        match fs::metadata(self.blob(blob)) {
            Ok(_) => self.settle(blob).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn read(&self, blob: &Blob) -> io::Result<File> {
        let file = File::open(self.blob(blob))?;
        self.settle(blob)?;
        Ok(file)
    }

    /// Makes the name of content durable that is there under it.
    fn settle(&self, blob: &Blob) -> io::Result<()> {
        if lock(&self.unsynced).contains(blob) {
            sync_directory(&self.blobs)?;
            lock(&self.unsynced).remove(blob);
        }
        Ok(())
    }

    /// Opens an upload's file at its end, created if need be, and cuts it to the length
    /// that is known to be durable. `hasher` has seen these bytes; without it
    /// they are read again.
    ///
    /// What was cut off is gone from the page cache too, so an earlier failure
    /// to write it back does not matter to the next fsync. `None` when bytes
    /// are gone that were durable.
    pub(super) fn resume(
        &self,
        id: Uuid,
        length: u64,
        hasher: Option<Hasher>,
    ) -> io::Result<Option<(Arc<File>, Hasher)>> {
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
        Ok(Some((Arc::new(file), hasher)))
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
        match File::options().write(true).open(self.partial(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            file => file?.set_len(length),
        }
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
        lock(&self.unsynced).insert(*blob);
        rename(self.partial(id), self.blob(blob))?;
        self.settle(blob)?;
        sync_directory(&self.partial)
    }

    /// Removes content, if it is there.
    pub(super) fn remove_blob(&self, blob: &Blob) -> io::Result<()> {
        match fs::remove_file(self.blob(blob)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_directory(&self.blobs),
        }
    }

    /// What all content takes, by the sizes in its names.
    pub(super) fn content(&self) -> io::Result<Usage> {
        let mut usage = Usage::default();
        for entry in fs::read_dir(&self.blobs)? {
            let name = entry?.file_name();
            let size = name.to_str().and_then(|name| name.rsplit_once('-')?.1.parse::<u64>().ok());
            usage.count += 1;
            usage.bytes = usage.bytes.saturating_add(size.unwrap_or_default());
        }
        Ok(usage)
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

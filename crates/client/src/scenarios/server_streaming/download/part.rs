//! A file while it is downloaded: it is beside its place, under a name that has
//! its checksum, so that the parts of two contents never mix.

use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use blake3::{Hash, Hasher};
use shared_process::{rename_if_free, sync_directory_of};

use crate::failure::Failure;

#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    /// Locked: nobody else downloads the same to the same place.
    file: File,
    hasher: Hasher,
}

impl Part {
    /// Opens what an earlier run has left, or begins. Reads what is there for
    /// its checksum. Blocks.
    pub(super) fn open(output: &Path, hash: &Hash, size: u64) -> Result<Self, Failure> {
        let mut name = OsString::from(output);
        name.push(format!(".{}.part", &hash.to_hex()[..16]));
        let path = PathBuf::from(name);
        Self::locked(&path, size).map_err(|error| Failure::output(&path.display().to_string(), &error))
    }

    fn locked(path: &Path, size: u64) -> io::Result<Self> {
        let options = &mut File::options();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another run is downloading to the same file"));
            }
            // Not every file system has locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let mut hasher = Hasher::new();
        if file.metadata()?.len() > size {
            file.set_len(0)?;
        }
        hasher.update_reader(&file)?;
        file.seek(io::SeekFrom::End(0))?;
        Ok(Self { path: path.to_owned(), file, hasher })
    }

    /// In bytes.
    pub(super) fn length(&self) -> u64 {
        self.hasher.count()
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| self.unwritten(&error))?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Puts it in its place when it has the checksum, and removes it when not.
    /// Blocks.
    pub(super) fn finish(self, hash: &Hash, output: &Path, replace: bool) -> Result<(), Failure> {
        let found = self.hasher.finalize();
        if found != *hash {
            fs::remove_file(&self.path).map_err(|error| self.unwritten(&error))?;
            return Err(Failure::damaged(format!(
                "the received content has the BLAKE3 checksum {found}, not {hash}; it was removed"
            )));
        }
        self.file.sync_all().map_err(|error| self.unwritten(&error))?;
        let placed =
            if replace { fs::rename(&self.path, output) } else { rename_if_free(&self.path, output) };
        placed
            .and_then(|()| sync_directory_of(output))
            .map_err(|error| Failure::output(&output.display().to_string(), &error))
    }

    fn unwritten(&self, error: &io::Error) -> Failure {
        Failure::output(&self.path.display().to_string(), error)
    }
}

//! The file on its disk: making, opening and checking it.

use std::{
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use domain::platform::{self, File, Lock};
use redb::{Database, DatabaseError, ReadableDatabase as _, StorageError};

use super::{super::file, CACHE, FORMAT, Failed, META, PAGES, panic_message, writer::Tables};

/// Where the file is. Has the lock that keeps others out.
pub(in super::super) trait Medium: Send + Sync {
    /// Opens the file, the first time and after it failed.
    fn open(&self) -> Result<Database, OpenError>;

    /// Fails when so many bytes more do not fit beside the file.
    fn try_room(&self, bytes: u64) -> io::Result<()>;
}

pub(super) struct OnDisk {
    pub(super) path: PathBuf,
    pub(super) _lock: Lock,
}

#[derive(Debug, thiserror::Error)]
pub(in super::super) enum OpenError {
    #[error(
        "{0} is not a store of this program, or is damaged: {1}; restore it from a backup, or move it away"
    )]
    Damaged(PathBuf, String),
    #[error("{0} has the format {1}, and this version of the server knows only {FORMAT}")]
    Format(PathBuf, u64),
    #[error("the disk fails at {0}: {1}")]
    Disk(PathBuf, io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl OpenError {
    fn new(path: &Path, failed: Failed) -> Self {
        match failed.cause() {
            // What is cut short is damaged.
            Ok(redb::Error::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                Self::Disk(path.to_owned(), error)
            }
            Ok(error) => Self::Damaged(path.to_owned(), error.to_string()),
            Err(refused) => Self::Damaged(path.to_owned(), refused.to_string()),
        }
    }
}

/// Under another name first: a file with the right name is whole.
pub(super) fn create(path: &Path) -> Result<(), OpenError> {
    let new = path.with_extension("new");
    match platform::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let made = || -> Result<(), Failed> {
        let database = file::create(&Database::builder(), &new)?;
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        transaction.open_table(META)?.insert("format", FORMAT)?;
        Tables::open(&transaction)?;
        Ok(transaction.commit()?)
    };
    made().map_err(|failed| OpenError::new(&new, failed))?;
    Ok(platform::rename(&new, path)?)
}

impl Medium for OnDisk {
    fn open(&self) -> Result<Database, OpenError> {
        open(&self.path)
    }

    fn try_room(&self, bytes: u64) -> io::Result<()> {
        const PIECE: [u8; PAGES as usize] = [0; PAGES as usize];
        let path = self.path.with_extension("room");
        let tried = File::options().write(true).create(true).truncate(true).open(&path).and_then(|file| {
            (0..bytes.div_ceil(PAGES)).try_for_each(|_| (&file).write_all(&PIECE))?;
            file.sync_data()
        });
        // The next try removes it otherwise.
        let _ = platform::remove_file(&path);
        tried
    }
}

fn open(path: &Path) -> Result<Database, OpenError> {
    let damaged = |reason: String| OpenError::Damaged(path.to_owned(), reason);
    if platform::metadata(path)?.len() == 0 {
        return Err(damaged("it is empty".to_owned()));
    }
    checked(path, || file::open(Database::builder().set_cache_size(CACHE), path))
}

pub(in super::super) fn checked(
    path: &Path,
    open: impl Fn() -> Result<Database, DatabaseError>,
) -> Result<Database, OpenError> {
    let damaged = |reason: String| OpenError::Damaged(path.to_owned(), reason);
    let checked = || -> Result<(Database, Option<u64>), Failed> {
        let mut database = open()?;
        // Every page against its checksum. What cannot be read is not mended by
        // going back to an older state: that would forget what was acknowledged.
        if !database.check_integrity()? {
            return Err(Failed::Storage(StorageError::Corrupted("a checksum is wrong".to_owned())));
        }
        let transaction = database.begin_read()?;
        let format = transaction.open_table(META)?.get("format")?.map(|format| format.value());
        Ok((database, format))
    };
    // redb panics on some kinds of damage.
    let opened = catch_unwind(AssertUnwindSafe(checked)).map_err(|panic| damaged(panic_message(&*panic)))?;
    match opened.map_err(|failed| OpenError::new(path, failed))? {
        (database, Some(FORMAT)) => Ok(database),
        (_, Some(format)) => Err(OpenError::Format(path.to_owned(), format)),
        (_, None) => Err(damaged("its format is not given".to_owned())),
    }
}

//! Log files below one directory, followed while they grow.
//!
//! A follower holds the file that it reads, so a file that is renamed or removed
//! is still read to its end. Everything here may block.
//!
//! No byte is delivered twice, and none is left out in silence. Files are opened
//! below the directory and nowhere else.

mod reading;

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use cap_std::{
    ambient_authority,
    fs::{Dir, DirEntry, Metadata, OpenOptions},
};

use self::reading::{Opened, Reading};
use super::open_files::{self, OpenFiles, TooManyOpenFiles};

/// How long to wait before looking again for what was not there.
pub const POLL: Duration = Duration::from_millis(150);

/// Of a path, in bytes.
const LONGEST_PATH: usize = 1_024;
/// How many files of a directory are looked at for one that was renamed.
const MOST_SIBLINGS: usize = 1_024;
/// What tools that rotate logs put behind the names of those that they compress.
const COMPRESSED: [&str; 4] = [".gz", ".zst", ".xz", ".bz2"];

/// The directory whose files may be followed. No path and no link leads out.
#[derive(Debug)]
pub struct Logs {
    root: Dir,
    /// The path of the root, without a link in it.
    at: PathBuf,
    files: OpenFiles,
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the first byte.
    Beginning,
    /// With what comes from now on.
    End,
    /// With so many of the last lines, as far as they are in the last MiB.
    LastLines(u32),
    /// With this byte, counted from 0.
    Offset(u64),
    /// Where a follower before this one was.
    Position(Position),
}

/// A place between two bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Which file the log was when it was read.
    pub file: FileId,
    /// The next byte, counted from 0.
    pub offset: u64,
    /// Of the bytes before it.
    pub check: u64,
}

/// A file, whatever its name is by now. With the time of its birth, as an inode
/// is used again when its file is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileId(pub String);

/// What there is to say of a log.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The first one, unless it is one of those below.
    Opened {
        /// In bytes.
        size: u64,
    },
    /// The next bytes.
    Chunk(Bytes),
    /// What follows is from the start of another file.
    Rotated {
        /// The end of the file before could not be read any more, or a file
        /// between the two cannot be.
        rest_missing: bool,
    },
    /// What follows is from the start of the same file.
    Truncated,
}

#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("file {reason}")]
    BadPath { reason: String },
    #[error("there is no file {file:?} in the log directory")]
    NotFound { file: String },
    #[error("the server may not read {file:?}")]
    Forbidden { file: String },
    #[error("offset {offset} is beyond the end: the file has {size} bytes")]
    BeyondTheEnd { offset: u64, size: u64 },
    #[error("the log cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    #[error(transparent)]
    TooManyOpenFiles(#[from] TooManyOpenFiles),
}

/// Reads one log, from one file to the next.
#[derive(Debug)]
pub struct Follower {
    logs: Arc<Logs>,
    path: String,
    place: Place,
    /// Until it is dropped.
    _open: open_files::Place,
}

#[derive(Debug)]
enum Place {
    In(Reading),
    /// In a file that is gone, and nothing has its name.
    Gone(Position),
}

impl Logs {
    /// Opens the directory in which the logs are. Each that is followed has a place
    /// among the open `files`.
    pub fn open(root: &Path, files: OpenFiles) -> io::Result<Self> {
        let at = fs::canonicalize(root)?;
        Ok(Self { root: Dir::open_ambient_dir(&at, ambient_authority())?, at, files })
    }

    /// A follower, and the first event if there is one yet.
    pub fn follow(self: &Arc<Self>, path: &str, start: Start) -> Result<(Follower, Option<Event>), LogError> {
        match path.len() {
            0 => return Err(LogError::BadPath { reason: "must not be empty".to_owned() }),
            1..=LONGEST_PATH => {}
            length => {
                let reason = format!("has {length} bytes; {LONGEST_PATH} are allowed");
                return Err(LogError::BadPath { reason });
            }
        }
        let open = self.files.place()?;
        let (place, event) = match start {
            Start::Beginning => self.begin(path, |_| Ok(0))?,
            Start::End => self.begin(path, |file| Ok(file.size))?,
            Start::LastLines(lines) => self.begin(path, |file| file.last_lines(lines))?,
            Start::Offset(offset) => self.begin(path, |file| match offset <= file.size {
                true => Ok(offset),
                false => Err(LogError::BeyondTheEnd { offset, size: file.size }),
            })?,
            Start::Position(position) => match self.resume(path, &position)? {
                Some((reading, event)) => (Place::In(reading), Some(event)),
                None => (Place::Gone(position), None),
            },
        };
        Ok((Follower { logs: self.clone(), path: path.to_owned(), place, _open: open }, event))
    }

    fn begin(
        &self,
        path: &str,
        offset: impl FnOnce(&mut Opened) -> Result<u64, LogError>,
    ) -> Result<(Place, Option<Event>), LogError> {
        let mut opened = self.open_file(path)?;
        let (offset, size) = (offset(&mut opened)?, opened.size);
        let reading = Reading::at(opened, offset)?;
        Ok((Place::In(reading), Some(Event::Opened { size })))
    }

    /// Goes on in the file that the position is in: the one with the path, or a
    /// sibling, for logs are rotated by renaming. `None` when that is gone, and
    /// there is no other with the path.
    fn resume(&self, path: &str, position: &Position) -> Result<Option<(Reading, Event)>, LogError> {
        let current = match self.open_file(path) {
            Ok(opened) => Some(opened),
            Err(LogError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let is_it = |opened: &Opened| opened.id == position.file;
        let (found, successor) = match current {
            Some(opened) if is_it(&opened) => (Some(opened), None),
            other => (self.sibling(path, &position.file), other),
        };
        let (reading, event) = match (found, successor) {
            (Some(opened), successor) => {
                let size = opened.size;
                let mut reading = Reading::at(opened, position.offset.min(size))?;
                reading.successor = successor;
                let unchanged = reading.position() == *position;
                let event = if unchanged { Event::Opened { size } } else { reading.begin_anew() };
                (reading, event)
            }
            (None, Some(other)) => (Reading::at(other, 0)?, Event::Rotated { rest_missing: true }),
            (None, None) => return Ok(None),
        };
        Ok(Some((reading, event)))
    }

    fn open_file(&self, path: &str) -> Result<Opened, LogError> {
        let opened = match self.open_at(Path::new(path)) {
            Err(error) if leads_out(&error) => match self.resolved(path) {
                Some(resolved) => self.open_at(&resolved),
                None => Err(error),
            },
            opened => opened,
        };
        opened.map_err(|error| LogError::of_opening(path, error))?.ok_or_else(|| LogError::not_a_file(path))
    }

    /// `None` when it is no regular file.
    fn open_at(&self, path: &Path) -> io::Result<Option<Opened>> {
        // Opening some things that are no files does something to them, and a
        // pipe waits for its other end. What is there may change before it is
        // opened, so it does not wait, and is looked at again.
        if !self.root.metadata(path)?.is_file() {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        {
            use cap_std::fs::OpenOptionsExt as _;
            let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
            options.custom_flags(flags.bits().cast_signed());
        }
        let file = self.root.open_with(path, &options)?;
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then(|| Opened { id: FileId::of(&metadata), size: metadata.len(), file }))
    }

    /// A path with its links followed, also those that are absolute, such as in
    /// `/var/log/containers`. `None` when it leads out of the root, or nowhere.
    ///
    /// It is only a path: what opens it checks it again.
    fn resolved(&self, path: &str) -> Option<PathBuf> {
        // A peer learns nothing of what is outside: only a link may lead there.
        let is_below = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        let is_below = Path::new(path).components().all(is_below);
        let resolved = is_below.then(|| fs::canonicalize(self.at.join(path)).ok())??;
        resolved.strip_prefix(&self.at).ok().map(Path::to_owned)
    }

    /// What is next to the file that a path leads to, and its directory.
    fn siblings(&self, path: &Path) -> Option<(PathBuf, impl Iterator<Item = (DirEntry, Metadata)>)> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new(".")).to_owned();
        let entries = self.root.read_dir(&directory).ok()?.take(MOST_SIBLINGS).filter_map(Result::ok);
        let entries = entries.filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((entry, metadata))
        });
        Some((directory, entries))
    }

    /// The file with an id in the directory of a path.
    fn sibling(&self, path: &str, id: &FileId) -> Option<Opened> {
        let path = self.resolved(path).unwrap_or_else(|| path.into());
        let (directory, mut siblings) = self.siblings(&path)?;
        let (entry, _) = siblings.find(|(_, file)| FileId::of(file) == *id)?;
        // It may have got yet another name in between.
        self.open_at(&directory.join(entry.file_name())).ok()?.filter(|opened| opened.id == *id)
    }

    /// Which file comes after one that was read to its end, when `current` has
    /// its name by now: that one, unless there was another rotation in between.
    /// And whether something in between cannot be read.
    fn next(&self, path: &str, read: &Reading, current: Opened) -> (Opened, bool) {
        let between = || {
            let path = self.resolved(path)?;
            let name = path.file_name()?.to_str()?;
            let end = read.file.metadata().ok()?.modified().ok()?;
            let (directory, siblings) = self.siblings(&path)?;
            let between = siblings.filter_map(|(entry, file)| {
                let id = FileId::of(&file);
                let is_between = file.modified().ok()? > end && id != read.id && id != current.id;
                let name = entry.file_name().into_string().ok().filter(|found| is_rotated(name, found))?;
                is_between.then_some((file.modified().ok()?, name))
            });
            let (_, name) = between.min()?;
            // What is compressed is in between, and not to be read from here.
            let readable = !COMPRESSED.iter().any(|suffix| name.ends_with(suffix));
            Some(readable.then(|| self.open_at(&directory.join(name)).ok().flatten()).flatten())
        };
        match between() {
            None => (current, false),
            Some(None) => (current, true),
            Some(Some(between)) => (between, false),
        }
    }
}

/// Whether a file has the name of a log with a number or a time behind it.
fn is_rotated(log: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(log) else { return false };
    let rest = COMPRESSED.iter().find_map(|suffix| rest.strip_suffix(suffix)).unwrap_or(rest);
    rest.contains(|c: char| c.is_ascii_digit())
        && rest.chars().all(|c| c.is_ascii_digit() || ".-_:TZ".contains(c))
}

impl Follower {
    /// Where the next byte comes from.
    pub fn position(&self) -> Position {
        match &self.place {
            Place::In(reading) => reading.position(),
            Place::Gone(position) => position.clone(),
        }
    }

    /// What there is by now; `None` when it is nothing.
    pub fn poll(&mut self) -> Result<Option<Event>, LogError> {
        let reading = match &mut self.place {
            Place::In(reading) => reading,
            Place::Gone(position) => {
                let Some((reading, event)) = self.logs.resume(&self.path, position)? else {
                    return Ok(None);
                };
                self.place = Place::In(reading);
                return Ok(Some(event));
            }
        };
        loop {
            if let Some(event) = reading.read()? {
                return Ok(Some(event));
            }
            // It was there before this reading came to the end: what was written
            // before the rotation has been read.
            if let Some(successor) = reading.successor.take() {
                let (next, rest_missing) = self.logs.next(&self.path, reading, successor);
                *reading = Reading::at(next, 0)?;
                return Ok(Some(Event::Rotated { rest_missing }));
            }
            // A name that is gone, or has become something else, is waited for.
            reading.successor = self.logs.open_file(&self.path).ok().filter(|opened| opened.id != reading.id);
            if reading.successor.is_none() {
                return Ok(None);
            }
        }
    }
}

/// What the operating system refuses has a number; what leads out of the
/// directory is refused without one.
fn leads_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

impl LogError {
    fn not_a_file(path: &str) -> Self {
        Self::BadPath { reason: format!("{path:?} is not a regular file") }
    }

    fn of_opening(path: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound { file: path.to_owned() },
            _ if leads_out(&error) => {
                Self::BadPath { reason: format!("{path:?} leads out of the log directory") }
            }
            io::ErrorKind::PermissionDenied => Self::Forbidden { file: path.to_owned() },
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename | io::ErrorKind::NotADirectory => {
                Self::BadPath { reason: format!("{path:?} is not a path to a file: {error}") }
            }
            _ => Self::Unreadable(error),
        }
    }
}

#[cfg(test)]
mod tests;

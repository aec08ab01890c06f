//! Log files below one directory, followed while they grow.
//!
//! A follower holds the file that it reads, so a file that is renamed or removed
//! is still read to its end. Everything here may block.
//!
//! No byte is delivered twice, and none is left out in silence. Files are opened
//! below the directory and nowhere else.

use std::{
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use cap_std::{
    ambient_authority,
    fs::{Dir, File, Metadata, OpenOptions},
};

/// How long to wait before looking again for what was not there.
pub const POLL: Duration = Duration::from_millis(150);

/// The largest chunk, in bytes.
const CHUNK: usize = 64 << 10;
/// How many bytes before a position are compared to find out whether the file is
/// still the one that they were read from.
const OVERLAP: usize = 64;
/// Of a path, in bytes.
const LONGEST_PATH: usize = 1_024;
/// How many files of a directory are looked at for one that was renamed.
const MOST_SIBLINGS: usize = 1_024;

/// The directory whose files may be followed. No path and no link leads out.
#[derive(Debug)]
pub struct Logs {
    root: Dir,
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the first byte.
    Beginning,
    /// With what comes from now on.
    End,
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
        /// The end of the file before could not be read any more.
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
}

/// Reads one log, from one file to the next.
#[derive(Debug)]
pub struct Follower {
    logs: Arc<Logs>,
    path: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    In(Reading),
    /// In a file that is gone, and nothing has its name.
    Gone(Position),
}

/// A place in a file that is open.
#[derive(Debug)]
struct Reading {
    file: File,
    id: FileId,
    offset: u64,
    /// The last bytes before the offset.
    before: Vec<u8>,
    /// What has the name of the file now, when that is another one.
    successor: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    file: File,
    id: FileId,
    size: u64,
}

impl Logs {
    /// Opens the directory in which the logs are.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { root: Dir::open_ambient_dir(root, ambient_authority())? })
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
        match start {
            Start::Beginning => self.begin(path, |_| Ok(0)),
            Start::End => self.begin(path, Ok),
            Start::Offset(offset) => self.begin(path, |size| match offset <= size {
                true => Ok(offset),
                false => Err(LogError::BeyondTheEnd { offset, size }),
            }),
            Start::Position(position) => Ok(match self.resume(path, &position)? {
                Some((follower, event)) => (follower, Some(event)),
                None => (Follower::of(self, path, Place::Gone(position)), None),
            }),
        }
    }

    fn begin(
        self: &Arc<Self>,
        path: &str,
        offset: impl FnOnce(u64) -> Result<u64, LogError>,
    ) -> Result<(Follower, Option<Event>), LogError> {
        let opened = self.open_file(path)?;
        let size = opened.size;
        let reading = Reading::at(opened, offset(size)?)?;
        Ok((Follower::of(self, path, Place::In(reading)), Some(Event::Opened { size })))
    }

    /// Goes on in the file that the position is in: the one with the path, or a
    /// sibling, for logs are rotated by renaming. `None` when that is gone, and
    /// there is no other with the path.
    fn resume(
        self: &Arc<Self>,
        path: &str,
        position: &Position,
    ) -> Result<Option<(Follower, Event)>, LogError> {
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
        Ok(Some((Follower::of(self, path, Place::In(reading)), event)))
    }

    fn open_file(&self, path: &str) -> Result<Opened, LogError> {
        let refused = |error: io::Error| LogError::of_opening(path, error);
        // Opening some things that are no files does something to them, and a
        // pipe waits for its other end. What is there may change before it is
        // opened, so it does not wait, and is looked at again.
        if !self.root.metadata(path).map_err(refused)?.is_file() {
            return Err(LogError::not_a_file(path));
        }
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        {
            use cap_std::fs::OpenOptionsExt as _;
            let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
            options.custom_flags(flags.bits().cast_signed());
        }
        let file = self.root.open_with(path, &options).map_err(refused)?;
        let metadata = file.metadata().map_err(LogError::Unreadable)?;
        match metadata.is_file() {
            true => Ok(Opened { id: FileId::of(&metadata), size: metadata.len(), file }),
            false => Err(LogError::not_a_file(path)),
        }
    }

    /// The file with an id in the directory of a path.
    fn sibling(&self, path: &str, id: &FileId) -> Option<Opened> {
        let directory = Path::new(path).parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let entries = self.root.read_dir(directory).ok()?.take(MOST_SIBLINGS).filter_map(Result::ok);
        let mut found = entries.filter(|entry| entry.metadata().is_ok_and(|file| FileId::of(&file) == *id));
        let name = found.next()?.file_name();
        // It may have got yet another name in between.
        self.open_file(directory.join(name).to_str()?).ok().filter(|opened| opened.id == *id)
    }
}

impl Follower {
    fn of(logs: &Arc<Logs>, path: &str, place: Place) -> Self {
        Self { logs: logs.clone(), path: path.to_owned(), place }
    }

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
                let Some((follower, event)) = self.logs.resume(&self.path, position)? else {
                    return Ok(None);
                };
                *self = follower;
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
                *reading = Reading::at(successor, 0)?;
                return Ok(Some(Event::Rotated { rest_missing: false }));
            }
            // A name that is gone, or has become something else, is waited for.
            reading.successor = self.logs.open_file(&self.path).ok().filter(|opened| opened.id != reading.id);
            if reading.successor.is_none() {
                return Ok(None);
            }
        }
    }
}

impl Reading {
    fn at(Opened { mut file, id, .. }: Opened, offset: u64) -> Result<Self, LogError> {
        let overlap = usize::try_from(offset).unwrap_or(OVERLAP).min(OVERLAP);
        let before = read_at(&mut file, offset - overlap as u64, overlap)?;
        Ok(Self { file, id, offset, before, successor: None })
    }

    fn position(&self) -> Position {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&self.before).as_bytes();
        let check = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Position { file: self.id.clone(), offset: self.offset, check }
    }

    fn read(&mut self) -> Result<Option<Event>, LogError> {
        let overlap = self.before.len();
        let read = read_at(&mut self.file, self.offset - overlap as u64, overlap + CHUNK)?;
        if !read.starts_with(&self.before) {
            return Ok(Some(self.begin_anew()));
        }
        if read.len() == overlap {
            return Ok(None);
        }
        self.before = read[read.len().saturating_sub(OVERLAP)..].to_vec();
        self.offset += (read.len() - overlap) as u64;
        Ok(Some(Event::Chunk(Bytes::from(read).slice(overlap..))))
    }

    fn begin_anew(&mut self) -> Event {
        self.offset = 0;
        self.before.clear();
        Event::Truncated
    }
}

/// Fewer than `most` bytes only at the end of the file.
fn read_at(file: &mut File, offset: u64, most: usize) -> Result<Vec<u8>, LogError> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset)).map_err(LogError::Unreadable)?;
    file.take(most as u64).read_to_end(&mut bytes).map_err(LogError::Unreadable)?;
    Ok(bytes)
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().map(cap_std::time::SystemTime::into_std);
        let born = born.and_then(|born| born.duration_since(SystemTime::UNIX_EPOCH).ok());
        let born = born.unwrap_or_default().as_nanos();
        #[cfg(unix)]
        {
            use cap_std::fs::MetadataExt as _;
            Self(format!("{:x}-{:x}-{born:x}", metadata.dev(), metadata.ino()))
        }
        #[cfg(not(unix))]
        Self(format!("{born:x}"))
    }
}

impl LogError {
    fn not_a_file(path: &str) -> Self {
        Self::BadPath { reason: format!("{path:?} is not a regular file") }
    }

    fn of_opening(path: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound { file: path.to_owned() },
            // What the operating system refuses has a number; what leads out of
            // the directory is refused without one.
            io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
                Self::BadPath { reason: format!("{path:?} leads out of the log directory") }
            }
            io::ErrorKind::PermissionDenied => Self::Forbidden { file: path.to_owned() },
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename | io::ErrorKind::NotADirectory => {
                Self::BadPath { reason: format!("{path:?} is no path to a file: {error}") }
            }
            _ => Self::Unreadable(error),
        }
    }
}

#[cfg(test)]
mod tests;

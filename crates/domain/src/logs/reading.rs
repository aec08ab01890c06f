//! One file of a log, read from a position on.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    time::SystemTime,
};

use bytes::Bytes;
use cap_std::fs::{File, Metadata};

use super::{Event, FileId, LogError, Position};

/// How many bytes are searched for the last lines.
pub(super) const TAIL: u64 = 1 << 20;
/// The largest chunk, in bytes.
pub(super) const CHUNK: usize = 64 << 10;
/// How many bytes before a position are compared, to see whether the file is still the
/// one that they were read from.
const OVERLAP: usize = 64;

/// A position in an open file.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) file: File,
    pub(super) id: FileId,
    offset: u64,
    /// The last bytes before the offset.
    before: Vec<u8>,
    /// The file that now has this file's name, if it is another one.
    pub(super) successor: Option<Opened>,
}

#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) size: u64,
}

impl Opened {
    /// The offset at which the last `lines` lines begin.
    pub(super) fn last_lines(&mut self, lines: u32) -> Result<u64, LogError> {
        let Some(before) = lines.checked_sub(1) else { return Ok(self.size) };
        let from = self.size.saturating_sub(TAIL);
        let tail = read_at(&mut self.file, from, (self.size - from) as usize)?;
        let text = tail.strip_suffix(b"\n").unwrap_or(&tail);
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let mut begins = ends.map(|(end, _)| end as u64 + 1);
        let found = begins.clone().rev().nth(before as usize);
        let begin = match found {
            None if from > 0 => begins.next(),
            found => found,
        };
        Ok(from + begin.unwrap_or_default())
    }
}

impl Reading {
    pub(super) fn at(Opened { mut file, id, .. }: Opened, offset: u64) -> Result<Self, LogError> {
        let overlap = usize::try_from(offset).unwrap_or(OVERLAP).min(OVERLAP);
        let before = read_at(&mut file, offset - overlap as u64, overlap)?;
        Ok(Self { file, id, offset, before, successor: None })
    }

    pub(super) fn position(&self) -> Position {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&self.before).as_bytes();
        let check = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Position { file: self.id.clone(), offset: self.offset, check }
    }

    pub(super) fn read(&mut self) -> Result<Option<Event>, LogError> {
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

    pub(super) fn begin_anew(&mut self) -> Event {
        self.offset = 0;
        self.before.clear();
        Event::Truncated
    }
}

/// Returns fewer than `most` bytes only at the end of the file.
fn read_at(file: &mut File, offset: u64, most: usize) -> Result<Vec<u8>, LogError> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset)).map_err(LogError::Unreadable)?;
    file.take(most as u64).read_to_end(&mut bytes).map_err(LogError::Unreadable)?;
    Ok(bytes)
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
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

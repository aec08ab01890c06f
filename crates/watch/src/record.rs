//! Recordings: JSON lines, of which the first says what it is.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use http::Uri;
use serde::{Deserialize, Serialize};

use crate::{Event, Seen};

/// Of the format. One that adds events or fields keeps it.
const VERSION: u32 = 1;
/// The longest line that is read, in bytes: a message of 16 MiB in base64, and more.
const LINE: u64 = 32 << 20;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    fourmodes_recording: u32,
    /// In milliseconds since 1970.
    begun_unix_ms: u64,
    /// The server.
    server: String,
}

/// Writes a recording.
#[derive(Debug)]
pub struct Recorder {
    out: BufWriter<File>,
    /// How many bytes may still be written.
    left: u64,
    is_full: bool,
}

impl Recorder {
    /// Begins a file that will have so many bytes at most.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn create(file: &Path, server: &Uri, limit: u64) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let head = Head {
            fourmodes_recording: VERSION,
            begun_unix_ms: now.as_millis() as u64,
            server: server.to_string(),
        };
        let mut out = BufWriter::new(File::create(file)?);
        writeln!(out, "{}", serde_json::to_string(&head)?)?;
        out.flush()?;
        Ok(Self { out, left: limit, is_full: false })
    }

    /// Adds an event. When the file is full it says so, once, and takes no more.
    ///
    /// # Errors
    ///
    /// When it cannot be written; so with the others.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        if self.is_full {
            return Ok(());
        }
        let mut line = serde_json::to_string(event)?;
        if line.len() as u64 >= self.left {
            self.is_full = true;
            let text = "the recording is full; raise --record-limit for more".to_owned();
            line = serde_json::to_string(&Event { call: 0, seen: Seen::Note { text }, ..event.clone() })?;
        }
        self.left = self.left.saturating_sub(line.len() as u64 + 1);
        writeln!(self.out, "{line}")
    }

    /// Writes what waits for the file.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads a recording.
#[derive(Debug)]
pub struct Recording {
    lines: BufReader<File>,
    number: u64,
    /// The server that was called.
    pub server: Uri,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is something else in the file.
    #[error("it is not a recording: its first line is wrong")]
    None,
    /// It was written by a later program.
    #[error("it has version {0}, and this program reads version {VERSION}; use a newer one")]
    Newer(u32),
    /// The last line is not complete.
    #[error("it is cut off in line {0}; the lines before were read")]
    Cut(u64),
    /// A line is no event.
    #[error("line {0} is no event: {1}")]
    Line(u64, serde_json::Error),
}

impl Recording {
    /// Opens a recording.
    ///
    /// # Errors
    ///
    /// When it is none that this program can read.
    pub fn open(file: &Path) -> Result<Self, RecordingError> {
        let mut recording =
            Self { lines: BufReader::new(File::open(file)?), number: 0, server: Uri::default() };
        let line = recording.line()?.ok_or(RecordingError::None)?;
        // One of a later version may have another head, but says its version.
        let version = serde_json::from_str::<serde_json::Value>(&line).ok();
        match version.and_then(|head| head["fourmodes_recording"].as_u64()) {
            Some(version) if version > u64::from(VERSION) => {
                return Err(RecordingError::Newer(version as u32));
            }
            Some(_) => {}
            None => return Err(RecordingError::None),
        }
        let head: Head = serde_json::from_str(&line).map_err(|error| RecordingError::Line(1, error))?;
        recording.server = head.server.parse().unwrap_or_default();
        Ok(recording)
    }

    /// The next event, if there is one.
    ///
    /// # Errors
    ///
    /// When the recording is cut or damaged here.
    pub fn event(&mut self) -> Result<Option<Event>, RecordingError> {
        let Some(line) = self.line()? else { return Ok(None) };
        let is_whole = line.ends_with('\n');
        serde_json::from_str(&line).map(Some).map_err(|error| match is_whole {
            true => RecordingError::Line(self.number, error),
            false => RecordingError::Cut(self.number),
        })
    }

    fn line(&mut self) -> Result<Option<String>, RecordingError> {
        let mut line = Vec::new();
        io::Read::take(&mut self.lines, LINE).read_until(b'\n', &mut line)?;
        self.number += 1;
        match line.is_empty() {
            true => Ok(None),
            false => Ok(Some(String::from_utf8_lossy(&line).into_owned())),
        }
    }
}

//! Readings from a file or from standard input, as a table or as JSON lines, in
//! memory that does not grow with the input.
//!
//! They come in numbered batches of one device each. Of a file the batches are
//! always the same, and so is the name under which they are numbered: whoever
//! delivers it again, after a crash or by mistake, counts nothing twice.

mod batches;
mod format;
#[cfg(feature = "fuzzing")]
mod fuzzed;
mod table;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, Read, Seek as _},
    mem,
    path::Path,
};

use indicatif::ProgressBar;
use shared_proto::fourmodes::v1::Reading;

pub(super) use self::batches::{Batch, Portion, Refused};
#[cfg(feature = "fuzzing")]
pub use self::fuzzed::readings;
use self::{
    batches::Rows,
    format::{Format, Unknown},
};
use crate::{bar, failure::Failure, lines::Lines};

/// How a file becomes the name of a producer. Another way to make batches needs
/// another one.
const PRODUCER: &str = "fourmodes 2026 readings of a file by RFC 4180 in batches";

/// What is read, in the order in which it is.
#[derive(Debug)]
pub(super) enum Input {
    /// Comes first: the name that stands for the content of a file, and none
    /// for what can be read only once.
    Producer(Option<String>),
    Portion(Portion),
}

/// Reads `path`, or standard input for `-`, and gives `take` one part after the
/// other until it returns false. Blocks.
///
/// # Errors
///
/// When the input cannot be read, is empty, is neither a table with the columns
/// device, time and value nor JSON lines, or is a file that changes meanwhile.
/// A row that is not what the others are is no error: it is refused.
pub(super) fn read(
    path: &Path,
    progress: &ProgressBar,
    mut take: impl FnMut(Input) -> bool,
) -> Result<(), Failure> {
    let read = match path == Path::new("-") {
        true => read_stream(io::stdin(), &ProgressBar::hidden(), &mut take),
        false => open(path, progress).map_err(Unusable::from).and_then(|(file, is_regular)| {
            if is_regular { read_file(file, progress, take) } else { read_stream(file, progress, &mut take) }
        }),
    };
    read.map_err(|error| Failure::input(path, error))
}

/// What can be read only once. Its readings are not held back.
fn read_stream(
    input: impl Read,
    progress: &ProgressBar,
    take: &mut impl FnMut(Input) -> bool,
) -> Result<(), Unusable> {
    if !take(Input::Producer(None)) {
        return Ok(());
    }
    read_from(input, progress, true, |portion| take(Input::Portion(portion)))
}

/// Twice: its name is a checksum of all that there is now. What is appended
/// meanwhile is not part of it.
fn read_file(
    mut file: File,
    progress: &ProgressBar,
    mut take: impl FnMut(Input) -> bool,
) -> Result<(), Unusable> {
    let mut whole = blake3::Hasher::new_derive_key(PRODUCER);
    whole.update_reader(&mut file)?;
    if !take(Input::Producer(Some(whole.finalize().to_string()))) {
        return Ok(());
    }
    file.rewind()?;
    let read = blake3::Hasher::new_derive_key(PRODUCER);
    let mut file = Hashed { input: file.take(whole.count()), read };
    let mut gone = false;
    read_from(&mut file, progress, false, |portion| {
        gone = !take(Input::Portion(portion));
        !gone
    })?;
    if !gone && file.read.finalize() != whole.finalize() {
        return Err(Unusable::Changed);
    }
    Ok(())
}

/// Keeps the checksum of what is read.
struct Hashed<R> {
    input: R,
    read: blake3::Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.read.update(&buffer[..length]);
        Ok(length)
    }
}

/// Whether `path` may be read, without reading from it.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Ok(());
    }
    let opened = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(Failure::input(path, "cannot be read: it is a directory"));
        }
        Ok(metadata) if metadata.is_file() => File::open(path).map(drop),
        // To open a pipe twice would lose what its writer has.
        metadata => metadata.map(drop),
    };
    opened.map_err(|error| Failure::input(path, Unusable::Io(error)))
}

/// The file, and whether it is one that can be read twice.
fn open(path: &Path, progress: &ProgressBar) -> io::Result<(File, bool)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        bar::of_bytes(progress, metadata.len(), "the server");
    }
    Ok((file, metadata.is_file()))
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is empty")]
    Empty,
    #[error("has a header and no rows")]
    NoRows,
    #[error(transparent)]
    Unknown(#[from] Unknown),
    #[error("changed while it was read, and parts of it are delivered; deliver it again when it is at rest")]
    Changed,
}

fn read_from(
    input: impl Read,
    progress: &ProgressBar,
    prompt: bool,
    mut take: impl FnMut(Portion) -> bool,
) -> Result<(), Unusable> {
    let mut lines = Lines::of(input);
    if !lines.advance()? {
        return Err(Unusable::Empty);
    }
    let mut format = Format::detect(&mut lines)??;
    let mut more = match format {
        Format::Table(_) => lines.advance()?,
        Format::JsonLines => true,
    };
    if !more {
        return Err(Unusable::NoRows);
    }
    let mut rows = Rows::default();
    while more {
        match format.read(&mut lines)?.and_then(|()| format.reading(lines.line())) {
            Ok((device, reading)) => rows.add(&device, Reading { line: lines.number(), ..reading }),
            Err(reason) => rows.refuse(lines.number(), and_its_end(reason, &lines)),
        }
        progress.set_position(lines.position());
        // A reading that arrives slowly is not held back: what the reader has
        // in its buffer decides, not a clock. Of a file the batches must not
        // depend on that.
        if rows.is_full() || prompt && lines.would_wait() {
            rows.complete_all();
        }
        if rows.is_portion() && !take(mem::take(&mut rows.ready)) {
            return Ok(());
        }
        more = lines.advance()?;
    }
    rows.complete_all();
    take(rows.ready);
    Ok(())
}

/// Why a row was refused, and which lines it had.
fn and_its_end(reason: String, lines: &Lines<impl Read>) -> String {
    match lines.last_number() {
        last if last == lines.number() => reason,
        last => format!("{reason}; the row goes on to line {last}"),
    }
}

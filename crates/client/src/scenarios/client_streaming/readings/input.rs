//! Reads a table or JSON lines from a file or from standard input, in bounded memory.
//!
//! The readings come in numbered batches, each of one device. A file always gives the
//! same batches and the same producer name. So a file that is delivered again, after a
//! crash or by mistake, is not counted twice.

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

/// The context of the hash that turns a file into a producer name. Change it whenever
/// the batches of a file change.
const PRODUCER: &str = "fourmodes 2026 readings of a file by RFC 4180 in batches";

/// The parts of an input, in the order in which they are read.
#[derive(Debug)]
pub(super) enum Input {
    /// Comes first: a name derived from the content of a file, or `None` for an input
    /// that can be read only once.
    Producer(Option<String>),
    Portion(Portion),
}

/// Reads `path`, or standard input for `-`, and passes the parts to `take` until that
/// returns false. Blocks.
///
/// # Errors
///
/// When the input cannot be read, is empty, is neither a table with the columns device,
/// time and value nor JSON lines, or is a file that changes while it is read. A
/// malformed row is not an error: it is refused.
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

/// Reads an input that can be read only once. Its readings are not held back.
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

/// Reads a file twice, because its name is a checksum of its present content. What is
/// appended in the meantime is left out.
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

/// A reader that hashes what it reads.
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

/// Whether `path` can be read. Reads nothing from it.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Ok(());
    }
    let opened = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(Failure::input(path, "cannot be read: it is a directory"));
        }
        Ok(metadata) if metadata.is_file() => File::open(path).map(drop),
        // Opening a pipe twice would lose data of its writer.
        metadata => metadata.map(drop),
    };
    opened.map_err(|error| Failure::input(path, Unusable::Io(error)))
}

/// Opens the file. Also returns whether it can be read twice.
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
        // Readings that arrive slowly are not held back. The reader's buffer
        // decides that, not a clock. The batches of a file must not depend on it.
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

/// Adds the last line of a refused row to the reason, if the row has several lines.
fn and_its_end(reason: String, lines: &Lines<impl Read>) -> String {
    match lines.last_number() {
        last if last == lines.number() => reason,
        last => format!("{reason}; the row goes on to line {last}"),
    }
}

//! Readings from a file or from standard input, as a table or as JSON lines, in
//! memory that does not grow with the input.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use csv_core::ReadRecordResult;
use indicatif::ProgressBar;
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use shared_proto::{fourmodes::v1::Reading, limits::TIMESTAMP_SECONDS};

use crate::{
    bar,
    failure::Failure,
    lines::{LONGEST_LINE, Lines},
};

/// How many rows go into one message.
const BATCH: usize = 512;
const MOST_COLUMNS: usize = 256;

/// Some rows, in the order of the input.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) readings: Vec<Reading>,
    /// What is no reading.
    pub(crate) refused: Vec<Refused>,
}

/// A row that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Refused {
    pub(crate) line: u64,
    pub(crate) reason: String,
}

/// Reads `path`, or standard input for `-`, and gives `take` batch after batch
/// until it returns false. Blocks.
///
/// # Errors
///
/// When the input cannot be read, is empty, or is neither a table with the
/// columns device, time and value nor JSON lines. A row that is not what the
/// others are is no error: it is refused in its batch.
pub(crate) fn read(
    path: &Path,
    progress: &ProgressBar,
    take: impl FnMut(Batch) -> bool,
) -> Result<(), Failure> {
    let readings = if path == Path::new("-") {
        read_from(io::stdin(), &ProgressBar::hidden(), take)
    } else {
        open(path, progress).map_err(Unusable::from).and_then(|file| read_from(file, progress, take))
    };
    readings.map_err(|error| Failure::input(path, error))
}

/// Whether `path` can be opened, without reading from it.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Ok(());
    }
    let file = File::open(path).and_then(|file| file.metadata());
    match file {
        Ok(file) if file.is_dir() => Err(Failure::input(path, "cannot be read: it is a directory")),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::input(path, Unusable::Io(error))),
    }
}

fn open(path: &Path, progress: &ProgressBar) -> io::Result<File> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        bar::of_bytes(progress, metadata.len());
    }
    Ok(file)
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is empty")]
    Empty,
    #[error("has a header and no rows")]
    NoRows,
    #[error("is no text: its first line has a zero byte or invalid UTF-8")]
    Binary,
    #[error("begins neither with a JSON object nor with a header that names device, time and value: {0}")]
    NoHeader(String),
}

fn read_from(
    input: impl Read,
    progress: &ProgressBar,
    mut take: impl FnMut(Batch) -> bool,
) -> Result<(), Unusable> {
    let mut lines = Lines::of(input);
    if !lines.advance()? {
        return Err(Unusable::Empty);
    }
    let mut format = Format::detect(&lines.line)?;
    let mut more = match format {
        Format::Table(_) => lines.advance()?,
        Format::JsonLines => true,
    };
    if !more {
        return Err(Unusable::NoRows);
    }
    let mut batch = Batch::default();
    while more {
        match format.parse(&lines.line) {
            Ok(reading) => batch.readings.push(Reading { line: lines.number, ..reading }),
            Err(reason) => batch.refused.push(Refused { line: lines.number, reason }),
        }
        progress.inc(lines.line.len() as u64 + 1);
        // A reading that arrives slowly is not held back: what the reader has
        // in its buffer decides, not a clock.
        let full = batch.readings.len() + batch.refused.len() == BATCH;
        if (full || lines.would_wait()) && !take(std::mem::take(&mut batch)) {
            return Ok(());
        }
        more = lines.advance()?;
    }
    take(batch);
    Ok(())
}

enum Format {
    Table(Box<Table>),
    JsonLines,
}

impl Format {
    fn detect(first: &[u8]) -> Result<Self, Unusable> {
        let text = std::str::from_utf8(first).ok().filter(|text| !text.contains('\0'));
        let text = text.ok_or(Unusable::Binary)?;
        if text.trim_start().starts_with('{') {
            return Ok(Self::JsonLines);
        }
        match Table::with_header(text) {
            Some(table) => Ok(Self::Table(Box::new(table))),
            None => Err(Unusable::NoHeader(format!("{:?}", text.chars().take(60).collect::<String>()))),
        }
    }

    /// The number of the line is for the caller to fill in.
    fn parse(&mut self, line: &[u8]) -> Result<Reading, String> {
        if line.len() > LONGEST_LINE {
            return Err(format!("the line has more than {LONGEST_LINE} bytes"));
        }
        match self {
            Self::Table(table) => table.parse(line),
            Self::JsonLines => {
                let reading: JsonReading = serde_json::from_slice(line).map_err(|error| not_json(&error))?;
                let time = match reading.time {
                    JsonTime::Text(text) => timestamp(&text)?,
                    JsonTime::Seconds(seconds) => unix(seconds)?,
                };
                Ok(Reading { device: reading.device, time: Some(time), value: reading.value, line: 0 })
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(expecting = "a JSON object with device, time and value on one line")]
struct JsonReading {
    device: String,
    time: JsonTime,
    value: f64,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "time is neither a string nor a number")]
enum JsonTime {
    Text(String),
    Seconds(f64),
}

/// The place that serde_json names is in a line that it takes for the first.
fn not_json(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    match error.classify() {
        serde_json::error::Category::Data => message.to_owned(),
        _ => format!("not a JSON object: {message} at column {}", error.column()),
    }
}

/// A table and where its columns are.
struct Table {
    parser: csv_core::Reader,
    /// The fields of the current row, one after the other, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
    device: usize,
    time: usize,
    value: usize,
}

impl Table {
    /// `None` unless the header names all three columns.
    fn with_header(header: &str) -> Option<Self> {
        let mut table = Self {
            parser: csv_core::Reader::new(),
            text: vec![0; LONGEST_LINE + 2],
            ends: vec![0; MOST_COLUMNS],
            count: 0,
            device: 0,
            time: 0,
            value: 0,
        };
        table.split(header.as_bytes()).ok()?;
        let column = |name| {
            (0..table.count).find(|n| table.field(*n).is_ok_and(|field| field.eq_ignore_ascii_case(name)))
        };
        (table.device, table.time, table.value) = (column("device")?, column("time")?, column("value")?);
        Some(table)
    }

    fn parse(&mut self, line: &[u8]) -> Result<Reading, String> {
        self.split(line)?;
        let device = self.field(self.device)?.to_owned();
        let time = timestamp(self.field(self.time)?)?;
        let value = self.field(self.value)?;
        let value = value.parse().map_err(|_| format!("value {} is not a number", quoted(value)))?;
        Ok(Reading { device, time: Some(time), value, line: 0 })
    }

    fn split(&mut self, line: &[u8]) -> Result<(), String> {
        self.parser.reset();
        // A quotation mark that is never closed ends with its line.
        let (mut text, mut ends) = (0, 0);
        for piece in [line, b"\n", b""] {
            let room = (&mut self.text[text..], &mut self.ends[ends..]);
            let (result, _, written, ended) = self.parser.read_record(piece, room.0, room.1);
            text += written;
            ends += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record | ReadRecordResult::End => break,
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    return Err(format!("the row has more than {MOST_COLUMNS} columns"));
                }
            }
        }
        self.count = ends;
        Ok(())
    }

    fn field(&self, n: usize) -> Result<&str, String> {
        if n >= self.count {
            let columns = if self.count == 1 { "column" } else { "columns" };
            return Err(format!("the row has {} {columns}, too few", self.count));
        }
        let begin = if n == 0 { 0 } else { self.ends[n - 1] };
        let field = std::str::from_utf8(&self.text[begin..self.ends[n]]);
        field.map(str::trim).map_err(|_| "the row is not UTF-8".to_owned())
    }
}

/// RFC 3339 or seconds since 1970.
fn timestamp(text: &str) -> Result<Timestamp, String> {
    match text.parse::<f64>() {
        Ok(seconds) => unix(seconds),
        Err(_) => {
            text.parse().map_err(|_| format!("time {} is neither RFC 3339 nor Unix seconds", quoted(text)))
        }
    }
}

fn unix(seconds: f64) -> Result<Timestamp, String> {
    let (first, last) = TIMESTAMP_SECONDS.into_inner();
    if !(first as f64..=last as f64).contains(&seconds) {
        return Err(format!("time {seconds:?} is outside the years 1 to 9999"));
    }
    let whole = seconds.floor();
    Ok(Timestamp { seconds: whole as i64, nanos: ((seconds - whole) * 1e9) as i32 })
}

/// A field as it can be shown: short, and harmless for a terminal.
fn quoted(field: &str) -> String {
    const LONGEST: usize = 40;
    let short: String = field.chars().take(LONGEST).collect();
    let more = if short.len() < field.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Result<(Vec<Reading>, Vec<Refused>), String> {
        let (mut readings, mut refused) = (Vec::new(), Vec::new());
        read_from(input, &ProgressBar::hidden(), |batch| {
            readings.extend(batch.readings);
            refused.extend(batch.refused);
            true
        })
        .map_err(|error| error.to_string())?;
        Ok((readings, refused))
    }

    fn values(input: &[u8]) -> Vec<(u64, String, f64)> {
        let (readings, refused) = all(input).unwrap();
        assert_eq!(refused, []);
        readings.into_iter().map(|r| (r.line, r.device, r.value)).collect()
    }

    #[test]
    fn tables_and_json_lines_say_the_same() {
        let table = b"device,time,value\na,2026-01-02T03:04:05.5Z,1.5\n\nb,1767323045.5,-2e3\n";
        let json = br#"{"device":"a","time":"2026-01-02T03:04:05.5Z","value":1.5}

                       {"device":"b","time":1767323045.5,"value":-2e3}"#;
        let (mut from_table, _) = all(table).unwrap();
        let (from_json, _) = all(json).unwrap();
        assert_eq!(from_table[0].time, from_table[1].time);
        for reading in &mut from_table {
            reading.line -= 1;
        }
        assert_eq!(from_table, from_json);
    }

    #[test]
    fn columns_are_found_by_name_and_line_ends_do_not_matter() {
        let table = b"\xef\xbb\xbfValue, note ,DEVICE,time\r\n1,\"x,y\",\"a \"\"b\"\"\",0\r\n2,,c,0";
        assert_eq!(values(table), [(2, "a \"b\"".to_owned(), 1.0), (3, "c".to_owned(), 2.0)]);
    }

    #[test]
    fn rows_that_are_no_readings_are_refused_with_their_line() {
        let table = b"device,time,value\na,0\na,0,x\n\na,yesterday,1\n\"open,0,1\na,0,1\n\xff,0,1\na,1e300,1\nb,0,nan\n";
        let (readings, refused) = all(table).unwrap();
        assert_eq!(readings.iter().map(|r| r.line).collect::<Vec<_>>(), [7, 10]);
        let refused: Vec<_> = refused.iter().map(|r| (r.line, r.reason.as_str())).collect();
        assert_eq!(
            refused,
            [
                (2, "the row has 2 columns, too few"),
                (3, "value \"x\" is not a number"),
                (5, "time \"yesterday\" is neither RFC 3339 nor Unix seconds"),
                (6, "the row has 1 column, too few"),
                (8, "the row is not UTF-8"),
                (9, "time 1e300 is outside the years 1 to 9999"),
            ]
        );
    }

    #[test]
    fn a_line_without_end_is_refused_in_bounded_memory() {
        let mut table = b"device,time,value\n".to_vec();
        table.resize(table.len() + 10 * LONGEST_LINE, b'x');
        table.extend_from_slice(b"\na,0,1\n");
        let (readings, refused) = all(&table).unwrap();
        assert_eq!((readings.len(), readings[0].line), (1, 3));
        assert_eq!((refused.len(), refused[0].line), (1, 2));
    }

    #[test]
    fn what_is_no_input_at_all_is_an_error() {
        let error = |input: &[u8]| all(input).unwrap_err();
        assert_eq!(error(b""), "is empty");
        assert_eq!(error(b"\n \n"), "is empty");
        assert_eq!(error(b"device,time,value\n\n"), "has a header and no rows");
        assert!(error(b"\x7fELF\x02\x01\x01\0\0").starts_with("is no text"));
        assert!(error(b"\xff\xfe").starts_with("is no text"));
        assert!(error(b"a,b,c\n1,2,3\n").contains("device, time and value"));
        assert!(error(b"[1]\n").contains("device, time and value"));
    }

    #[test]
    fn readings_come_in_batches() {
        let mut table = b"device,time,value\n".to_vec();
        table.extend(b"a,0,1\n".repeat(1200));
        let mut sizes = Vec::new();
        read_from(&table[..], &ProgressBar::hidden(), |batch| {
            sizes.push(batch.readings.len());
            true
        })
        .unwrap();
        assert_eq!(sizes.iter().sum::<usize>(), 1200);
        assert!(sizes.iter().all(|size| *size <= BATCH));
    }
}

//! Readings from a file or from standard input, as a table or as JSON lines, in
//! memory that does not grow with the input.
//!
//! They come in numbered batches of one device each. Of a file the batches are
//! always the same, and so is the name under which they are numbered: whoever
//! delivers it again, after a crash or by mistake, counts nothing twice.

#[cfg(feature = "fuzzing")]
mod fuzzed;

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek as _},
    mem,
    path::Path,
};

use csv_core::ReadRecordResult;
use indicatif::ProgressBar;
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use shared_proto::{fourmodes::v1::Reading, limits::TIMESTAMP_SECONDS};

#[cfg(feature = "fuzzing")]
pub use self::fuzzed::readings;
use crate::{
    bar,
    failure::Failure,
    lines::{LONGEST_LINE, Lines},
};

/// How many rows go into one batch. Part of what [`PRODUCER`] stands for.
const BATCH: usize = 512;
/// How many rows of all devices wait for their batches to fill; likewise.
const HELD: usize = 65_536;
/// How many devices an input may have; likewise.
const DEVICES: usize = 10_000;
/// How a file becomes the name of a producer. Another way to make batches needs
/// another one.
const PRODUCER: &str = "fourmodes 2026 readings of a file in batches";
const MOST_COLUMNS: usize = 256;

/// What is read, in the order in which it is.
#[derive(Debug)]
pub(crate) enum Input {
    /// Comes first: the name that stands for the content of a file, and none
    /// for what can be read only once.
    Producer(Option<String>),
    Portion(Portion),
}

/// Some rows.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    pub(crate) batches: Vec<Batch>,
    /// What is no reading.
    pub(crate) refused: Vec<Refused>,
}

/// Readings of one device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    pub(crate) device: String,
    /// From 1 for each device.
    pub(crate) sequence: u64,
    pub(crate) readings: Vec<Reading>,
}

/// A row that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Refused {
    pub(crate) line: u64,
    pub(crate) reason: String,
}

/// Reads `path`, or standard input for `-`, and gives `take` one part after the
/// other until it returns false. Blocks.
///
/// # Errors
///
/// When the input cannot be read, is empty, is neither a table with the columns
/// device, time and value nor JSON lines, or is a file that changes meanwhile.
/// A row that is not what the others are is no error: it is refused.
pub(crate) fn read(
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

/// The file, and whether it is one that can be read twice.
fn open(path: &Path, progress: &ProgressBar) -> io::Result<(File, bool)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        bar::of_bytes(progress, metadata.len());
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
    #[error("is no text: its first line has a zero byte or invalid UTF-8")]
    Binary,
    #[error("begins neither with a JSON object nor with a header that names device, time and value: {0}")]
    NoHeader(String),
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
    let mut format = Format::detect(&lines.line)?;
    let mut more = match format {
        Format::Table(_) => lines.advance()?,
        Format::JsonLines => true,
    };
    if !more {
        return Err(Unusable::NoRows);
    }
    let mut rows = Rows::default();
    while more {
        match format.parse(&lines.line) {
            Ok((device, reading)) => rows.add(&device, Reading { line: lines.number, ..reading }),
            Err(reason) => rows.refuse(lines.number, reason),
        }
        progress.inc(lines.line.len() as u64 + 1);
        // A reading that arrives slowly is not held back: what the reader has
        // in its buffer decides, not a clock. Of a file the batches must not
        // depend on that.
        if rows.held >= HELD || prompt && lines.would_wait() {
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

/// Rows on their way into batches.
#[derive(Default)]
struct Rows {
    /// In the order in which they appeared.
    devices: Vec<Device>,
    places: HashMap<String, usize>,
    /// Rows that are in no batch yet.
    held: usize,
    ready: Portion,
}

struct Device {
    name: String,
    /// The last batch.
    sequence: u64,
    held: Vec<Reading>,
}

impl Rows {
    fn add(&mut self, device: &str, reading: Reading) {
        let place = match self.places.get(device) {
            Some(place) => *place,
            None if self.devices.len() == DEVICES => {
                let reason = format!("one device too many: an input may have {DEVICES}");
                return self.refuse(reading.line, reason);
            }
            None => {
                self.places.insert(device.to_owned(), self.devices.len());
                self.devices.push(Device { name: device.to_owned(), sequence: 0, held: Vec::new() });
                self.devices.len() - 1
            }
        };
        let device = &mut self.devices[place];
        device.held.push(reading);
        self.held += 1;
        if device.held.len() == BATCH {
            self.held -= BATCH;
            self.ready.batches.push(device.complete());
        }
    }

    fn refuse(&mut self, line: u64, reason: String) {
        self.ready.refused.push(Refused { line, reason });
    }

    fn complete_all(&mut self) {
        let waiting = self.devices.iter_mut().filter(|device| !device.held.is_empty());
        self.ready.batches.extend(waiting.map(Device::complete));
        self.held = 0;
    }

    fn is_portion(&self) -> bool {
        !self.ready.batches.is_empty() || self.ready.refused.len() >= BATCH
    }
}

impl Device {
    fn complete(&mut self) -> Batch {
        self.sequence += 1;
        let readings = mem::take(&mut self.held);
        Batch { device: self.name.clone(), sequence: self.sequence, readings }
    }
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
    fn parse<'a>(&'a mut self, line: &'a [u8]) -> Result<(Cow<'a, str>, Reading), String> {
        if line.len() > LONGEST_LINE {
            return Err(format!("the line has more than {LONGEST_LINE} bytes"));
        }
        match self {
            Self::Table(table) => table.parse(line),
            Self::JsonLines => {
                let reading: JsonReading<'_> =
                    serde_json::from_slice(line).map_err(|error| not_json(&error))?;
                let time = match reading.time {
                    JsonTime::Text(text) => timestamp(&text)?,
                    JsonTime::Seconds(seconds) => unix(seconds)?,
                };
                Ok((reading.device, Reading { time: Some(time), value: reading.value, line: 0 }))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(expecting = "a JSON object with device, time and value on one line")]
struct JsonReading<'a> {
    #[serde(borrow)]
    device: Cow<'a, str>,
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

    fn parse(&mut self, line: &[u8]) -> Result<(Cow<'_, str>, Reading), String> {
        self.split(line)?;
        let time = timestamp(self.field(self.time)?)?;
        let value = self.field(self.value)?;
        let value = value.parse().map_err(|_| format!("value {} is not a number", quoted(value)))?;
        let device = self.field(self.device)?;
        Ok((device.into(), Reading { time: Some(time), value, line: 0 }))
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
        Err(_) => match text.parse::<Timestamp>() {
            Ok(time) if TIMESTAMP_SECONDS.contains(&time.seconds) => Ok(time),
            Ok(_) => Err(format!("time {} is outside the years 1 to 9999", quoted(text))),
            Err(_) => Err(format!("time {} is neither RFC 3339 nor Unix seconds", quoted(text))),
        },
    }
}

fn unix(seconds: f64) -> Result<Timestamp, String> {
    let (first, last) = TIMESTAMP_SECONDS.into_inner();
    if !(first as f64..=last as f64).contains(&seconds) {
        return Err(format!("time {seconds:?} is outside the years 1 to 9999"));
    }
    let whole = seconds.floor();
    // Of what is less than a bit before a whole second the rest is rounded to one.
    let nanos = ((seconds - whole) * 1e9).min(999_999_999.0);
    Ok(Timestamp { seconds: whole as i64, nanos: nanos as i32 })
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

    /// The rows with their devices, in the order of their lines.
    type Rows = (Vec<(String, Reading)>, Vec<Refused>);

    fn all(input: &[u8]) -> Result<Rows, String> {
        let (mut readings, mut refused) = (Vec::new(), Vec::new());
        read_from(input, &ProgressBar::hidden(), true, |portion| {
            for Batch { device, readings: batch, .. } in portion.batches {
                readings.extend(batch.into_iter().map(|reading| (device.clone(), reading)));
            }
            refused.extend(portion.refused);
            true
        })
        .map_err(|error| error.to_string())?;
        readings.sort_by_key(|(_, reading)| reading.line);
        Ok((readings, refused))
    }

    fn values(input: &[u8]) -> Vec<(u64, String, f64)> {
        let (readings, refused) = all(input).unwrap();
        assert_eq!(refused, []);
        readings.into_iter().map(|(device, r)| (r.line, device, r.value)).collect()
    }

    #[test]
    fn tables_and_json_lines_say_the_same() {
        let table = b"device,time,value\na,2026-01-02T03:04:05.5Z,1.5\n\nb,1767323045.5,-2e3\n";
        let json = br#"{"device":"a","time":"2026-01-02T03:04:05.5Z","value":1.5}

                       {"device":"b","time":1767323045.5,"value":-2e3}"#;
        let (mut from_table, _) = all(table).unwrap();
        let (from_json, _) = all(json).unwrap();
        assert_eq!(from_table[0].1.time, from_table[1].1.time);
        for (_, reading) in &mut from_table {
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
        assert_eq!(readings.iter().map(|(_, r)| r.line).collect::<Vec<_>>(), [7, 10]);
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
    fn a_time_is_within_what_a_timestamp_can_be() {
        // As it was found by `just fuzz`.
        let table = b"device,time,value\na\0\0(\x08,-2026-01-02T03:04:05.5Z,1.5\n";
        let (readings, refused) = all(table).unwrap();
        assert_eq!((readings.len(), refused.len()), (0, 1));
        assert_eq!(refused[0].reason, "time \"-2026-01-02T03:04:05.5Z\" is outside the years 1 to 9999");
        let (readings, _) = all(b"device,time,value\na,-1e-20,1\n").unwrap();
        assert_eq!(readings[0].1.time, Some(Timestamp { seconds: -1, nanos: 999_999_999 }));
    }

    #[test]
    fn a_line_without_end_is_refused_in_bounded_memory() {
        let mut table = b"device,time,value\n".to_vec();
        table.resize(table.len() + 10 * LONGEST_LINE, b'x');
        table.extend_from_slice(b"\na,0,1\n");
        let (readings, refused) = all(&table).unwrap();
        assert_eq!((readings.len(), readings[0].1.line), (1, 3));
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

    /// The batches of an input that comes in pieces of this size.
    fn batches(input: &[u8], piece: usize, prompt: bool) -> Vec<Batch> {
        struct Pieces<'a>(&'a [u8], usize);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = self.1.min(buffer.len());
                self.0.read(&mut buffer[..length])
            }
        }
        let mut batches = Vec::new();
        read_from(Pieces(input, piece), &ProgressBar::hidden(), prompt, |portion| {
            batches.extend(portion.batches);
            true
        })
        .unwrap();
        batches
    }

    fn table(rows: usize, devices: usize) -> Vec<u8> {
        let rows = (0..rows).map(|row| format!("d{},{row},1\n", row * row % devices));
        ["device,time,value\n".to_owned()].into_iter().chain(rows).collect::<String>().into_bytes()
    }

    #[test]
    fn batches_are_of_one_device_each_full_and_numbered_without_a_gap() {
        let table = table(200_000, 97);
        let mut last: HashMap<String, (u64, u64)> = HashMap::new();
        let mut rows = 0;
        for batch in batches(&table, 1000, false) {
            let (sequence, line) = last.entry(batch.device).or_default();
            assert_eq!(batch.sequence, *sequence + 1);
            *sequence = batch.sequence;
            assert!((1..=BATCH).contains(&batch.readings.len()));
            for reading in batch.readings {
                assert!(reading.line > *line);
                *line = reading.line;
                rows += 1;
            }
        }
        assert_eq!(rows, 200_000);
    }

    #[test]
    fn the_batches_of_a_file_do_not_depend_on_how_it_is_read() {
        // So many devices that batches leave before they are full.
        let table = table(200_000, 9_973);
        let whole = batches(&table, usize::MAX, false);
        for piece in [37, 4096] {
            assert!(batches(&table, piece, false) == whole);
        }
        assert!(whole.iter().all(|batch| batch.readings.len() <= BATCH));
        assert!(whole.len() > 10_000, "{}", whole.len());
    }

    #[test]
    fn rows_of_a_pipe_are_not_held_back() {
        let table = b"device,time,value\na,0,1\nb,0,1\n";
        let sequences = |batches: Vec<Batch>| batches.iter().map(|batch| batch.sequence).collect::<Vec<_>>();
        assert_eq!(sequences(batches(table, 1, true)), [1, 1]);
        let table = b"device,time,value\na,0,1\na,0,1\n";
        assert_eq!(sequences(batches(table, 1, true)), [1, 2]);
        assert_eq!(sequences(batches(table, 1, false)), [1]);
    }

    #[test]
    fn devices_are_bounded() {
        let rows = (0..DEVICES + 5).map(|n| format!("d{n},0,1\n")).collect::<String>();
        let (readings, refused) = all(format!("device,time,value\n{rows}d7,0,1\n").as_bytes()).unwrap();
        assert_eq!((readings.len(), refused.len()), (DEVICES + 1, 5));
        assert!(refused[0].reason.contains("10000"), "{refused:?}");
    }

    #[test]
    fn a_file_has_the_name_of_its_content_and_must_not_change() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |change: Option<&[u8]>| {
            let mut name = None;
            let read = read(file.path(), &ProgressBar::hidden(), |input| {
                if let Input::Producer(producer) = input {
                    name = producer;
                    change.inspect(|content| std::fs::write(&file, content).unwrap());
                }
                true
            });
            read.map(|()| name.unwrap()).map_err(|failure| failure.message().to_owned())
        };
        std::fs::write(&file, "device,time,value\na,0,1\n").unwrap();
        let name = read(None).unwrap();
        assert_eq!((read(None), name.len()), (Ok(name.clone()), 64));
        // What is appended is for the next time.
        assert_eq!(read(Some(b"device,time,value\na,0,1\na,0,2\n")), Ok(name.clone()));
        assert_ne!(read(None), Ok(name));
        assert!(read(Some(b"device,time,value\na,0,1\na,0,3\n")).unwrap_err().contains("changed"));
        assert!(read(Some(b"device,time,value\na,0,1\n")).unwrap_err().contains("changed"));
    }
}

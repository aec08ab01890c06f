//! A row of a table, or a line of JSON -> a reading.

use std::borrow::Cow;

use csv_core::ReadRecordResult;
use prost_types::Timestamp;
use serde::Deserialize;
use shared_proto::{fourmodes::v1::Reading, limits::TIMESTAMP_SECONDS};

use crate::lines::LONGEST_LINE;

const MOST_COLUMNS: usize = 256;

/// An input that is neither.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    #[error("is no text: its first line has a zero byte or invalid UTF-8")]
    Binary,
    #[error("begins neither with a JSON object nor with a header that names device, time and value: {0}")]
    NoHeader(String),
}

pub(super) enum Format {
    Table(Box<Table>),
    JsonLines,
}

impl Format {
    pub(super) fn detect(first: &[u8]) -> Result<Self, Unknown> {
        let text = std::str::from_utf8(first).ok().filter(|text| !text.contains('\0'));
        let text = text.ok_or(Unknown::Binary)?;
        if text.trim_start().starts_with('{') {
            return Ok(Self::JsonLines);
        }
        match Table::with_header(text) {
            Some(table) => Ok(Self::Table(Box::new(table))),
            None => Err(Unknown::NoHeader(format!("{:?}", text.chars().take(60).collect::<String>()))),
        }
    }

    /// The number of the line is for the caller to fill in.
    pub(super) fn parse<'a>(&'a mut self, line: &'a [u8]) -> Result<(Cow<'a, str>, Reading), String> {
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
pub(super) struct Table {
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

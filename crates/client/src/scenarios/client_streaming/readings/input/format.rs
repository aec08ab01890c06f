//! A row of a table, or a line of JSON -> a reading.

use std::{
    borrow::Cow,
    io::{self, Read},
};

use prost_types::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared_proto::{fourmodes::v1::Reading, limits::TIMESTAMP_SECONDS};

use super::table::Table;
use crate::lines::{LONGEST_LINE, Lines};

/// Of a time that is a number: 1970 to 2106. Milliseconds, and most dates without
/// separators, are outside.
const UNIX_SECONDS: u64 = u32::MAX as u64;

/// An input that is neither.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    #[error("is not text: its first line has a zero byte or invalid UTF-8")]
    Binary,
    #[error("starts neither with a JSON object nor with a header of device, time and value: {0}")]
    NoHeader(String),
    #[error("separates columns by {0}; use commas")]
    Separator(&'static str),
    #[error("has more than one column {0}; keep only one")]
    Twice(&'static str),
}

impl Unknown {
    pub(super) fn no_header(header: &str) -> Self {
        Self::NoHeader(quoted(header))
    }
}

pub(super) enum Format {
    Table(Box<Table>),
    JsonLines,
}

impl Format {
    /// By the current line, which is the first one.
    pub(super) fn detect(lines: &mut Lines<impl Read>) -> io::Result<Result<Self, Unknown>> {
        let text = std::str::from_utf8(lines.line()).ok().filter(|text| !text.contains('\0'));
        Ok(match text {
            None => Err(Unknown::Binary),
            Some(text) if text.trim_start().starts_with('{') => Ok(Self::JsonLines),
            Some(_) => Table::with_header(lines)?.map(|table| Self::Table(Box::new(table))),
        })
    }

    /// Reads what belongs to the current line, which may be more lines.
    pub(super) fn read(&mut self, lines: &mut Lines<impl Read>) -> io::Result<Result<(), String>> {
        if lines.line().len() > LONGEST_LINE {
            return Ok(Err(format!("the line has more than {LONGEST_LINE} bytes")));
        }
        match self {
            Self::Table(table) => table.read(lines),
            Self::JsonLines => Ok(Ok(())),
        }
    }

    /// What was read, where it is a line: that. The number is for the caller to fill
    /// in.
    pub(super) fn reading<'a>(&'a self, line: &'a [u8]) -> Result<(Cow<'a, str>, Reading), String> {
        match self {
            Self::Table(table) => reading_of_row(table.fields()?),
            Self::JsonLines => reading_of_json(line),
        }
    }
}

fn reading_of_row([device, time, value]: [&str; 3]) -> Result<(Cow<'_, str>, Reading), String> {
    let time = timestamp(time)?;
    let value = value.parse().map_err(|_| format!("value {} is not a number", quoted(value)))?;
    Ok((device.into(), Reading { time: Some(time), value, line: 0 }))
}

#[derive(Deserialize)]
#[serde(expecting = "a JSON object with device, time and value on one line")]
struct JsonReading<'a> {
    #[serde(borrow)]
    device: Cow<'a, str>,
    /// A number as it is written: with a fraction it may have more digits than a
    /// float.
    #[serde(borrow)]
    time: &'a RawValue,
    value: f64,
}

fn reading_of_json(line: &[u8]) -> Result<(Cow<'_, str>, Reading), String> {
    let reading: JsonReading<'_> = serde_json::from_slice(line).map_err(|error| not_json(&error))?;
    let time = match reading.time.get() {
        text if text.starts_with('"') => {
            timestamp(&serde_json::from_str::<Cow<'_, str>>(text).map_err(|error| not_json(&error))?)?
        }
        number => timestamp(number)?,
    };
    Ok((reading.device, Reading { time: Some(time), value: reading.value, line: 0 }))
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

/// RFC 3339, or seconds since 1970 with up to nine decimals.
fn timestamp(text: &str) -> Result<Timestamp, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if are_digits(whole.strip_prefix('-').unwrap_or(whole)) && are_digits(fraction) {
        return unix(whole, fraction).map_err(|reason| format!("time {} {reason}", quoted(text)));
    }
    match text.parse::<Timestamp>() {
        Ok(time) if is_rfc3339(text) && TIMESTAMP_SECONDS.contains(&time.seconds) => Ok(time),
        Ok(_) if is_rfc3339(text) => Err(format!("time {} is outside the years 1 to 9999", quoted(text))),
        Ok(_) => Err(format!(
            "time {} is not RFC 3339 in full, such as 2026-01-02T03:04:05Z with its offset",
            quoted(text)
        )),
        Err(_) => Err(format!("time {} is neither RFC 3339 nor Unix seconds", quoted(text))),
    }
}

/// Whether all is there: what reads a [`Timestamp`] takes much for granted, such as
/// a time of day and an offset.
fn is_rfc3339(text: &str) -> bool {
    let Some((date, rest)) = text.split_once(['T', 't', ' ']) else { return false };
    let (time, has_offset) = match rest.strip_suffix(['Z', 'z']) {
        Some(time) => (time, true),
        None => rest
            .split_once(['+', '-'])
            .map_or((rest, false), |(time, offset)| (time, matches!(offset.as_bytes(), [_, _, b':', _, _]))),
    };
    // Up to nanoseconds: the rest would be cut.
    date.len() == 10 && has_offset && matches!(time.len(), 8 | 10..=18) && !time.ends_with(['.', ' '])
}

fn unix(whole: &str, fraction: &str) -> Result<Timestamp, &'static str> {
    let seconds = whole.parse().ok().filter(|seconds| (0..=UNIX_SECONDS).contains(seconds));
    let Some(seconds) = seconds else {
        return Err("is outside the Unix seconds from 0 to 4294967295");
    };
    if is_date(whole.len(), seconds) {
        return Err("reads as a date; write 2026-01-02T00:00:00Z for one");
    }
    let nanos = format!("{fraction:0<9}").parse().ok().filter(|_| fraction.len() <= 9);
    let nanos = nanos.ok_or("has more than nine decimals")?;
    Ok(Timestamp { seconds: seconds as i64, nanos })
}

/// Whether digits are a year, a month and a day.
fn is_date(digits: usize, number: u64) -> bool {
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    digits == 8 && (1900..=2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// A field as it can be shown: short, and harmless for a terminal.
fn quoted(field: &str) -> String {
    const LONGEST: usize = 40;
    let short: String = field.chars().take(LONGEST).collect();
    let more = if short.len() < field.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

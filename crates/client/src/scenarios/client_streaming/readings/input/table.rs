//! Rows of comma-separated values by RFC 4180: what it does not allow is refused,
//! since a guess may be wrong. A row whose quotation mark is never closed is one
//! line, so that it swallows no other row.

use std::io::{self, Read};

use super::format::Unknown;
use crate::lines::Lines;

/// A table, of which a row is read at a time.
#[derive(Default)]
pub(super) struct Table {
    row: Row,
    /// How many columns the header has.
    width: usize,
    device: usize,
    time: usize,
    value: usize,
}

/// The fields of a row, one after the other, and where each ends.
#[derive(Default)]
struct Row {
    text: Vec<u8>,
    ends: Vec<usize>,
    in_quotes: bool,
}

impl Table {
    /// The current line begins its header.
    pub(super) fn with_header(lines: &mut Lines<impl Read>) -> io::Result<Result<Self, Unknown>> {
        let mut table = Self::default();
        let first = String::from_utf8_lossy(lines.line()).into_owned();
        if let Err(reason) = table.row.read(lines)? {
            return Ok(Err(Unknown::NoHeader(format!("in its first line {reason}"))));
        }
        table.width = table.row.ends.len();
        Ok(table.find_columns(&first).map(|()| table))
    }

    fn find_columns(&mut self, first: &str) -> Result<(), Unknown> {
        let separated = |by| first.split(by).count() > 2;
        let column = |name: &'static str| {
            let mut columns =
                (0..self.width).filter(|n| self.row.field(*n).is_ok_and(|it| it.eq_ignore_ascii_case(name)));
            match (columns.next(), columns.next()) {
                (Some(column), None) => Ok(column),
                (Some(_), Some(_)) => Err(Unknown::Twice(name)),
                (None, _) if separated(';') => Err(Unknown::Separator("semicolons")),
                (None, _) if separated('\t') => Err(Unknown::Separator("tabs")),
                (None, _) => Err(Unknown::no_header(first)),
            }
        };
        (self.device, self.time, self.value) = (column("device")?, column("time")?, column("value")?);
        Ok(())
    }

    /// Reads the row that the current line begins.
    pub(super) fn read(&mut self, lines: &mut Lines<impl Read>) -> io::Result<Result<(), String>> {
        Ok(self.row.read(lines)?.map_err(str::to_owned))
    }

    /// The device, the time and the value of the row.
    pub(super) fn fields(&self) -> Result<[&str; 3], String> {
        let counted = |count: usize| format!("{count} {}", if count == 1 { "column" } else { "columns" });
        match self.row.ends.len() {
            width if width == self.width => {}
            width => return Err(format!("the row has {}, the header {}", counted(width), self.width)),
        }
        Ok([self.row.field(self.device)?, self.row.field(self.time)?, self.row.field(self.value)?])
    }
}

impl Row {
    fn read(&mut self, lines: &mut Lines<impl Read>) -> io::Result<Result<(), &'static str>> {
        self.text.clear();
        self.ends.clear();
        self.in_quotes = false;
        let refused = loop {
            match self.take(lines.line()) {
                Ok(()) if !self.in_quotes => return Ok(Ok(())),
                Ok(()) if lines.extend()? => {}
                Ok(()) => break "a quotation mark is not closed",
                Err(reason) => break reason,
            }
        };
        lines.back();
        Ok(Err(refused))
    }

    /// The fields of a line, and the first part of one that goes on.
    fn take(&mut self, mut rest: &[u8]) -> Result<(), &'static str> {
        /// More than any table needs, and what bounds the memory.
        const COLUMNS: usize = 256;
        loop {
            if !self.in_quotes
                && let Some(quoted) = rest.strip_prefix(b"\"")
            {
                self.in_quotes = true;
                rest = quoted;
            }
            if self.in_quotes {
                let Some(mark) = rest.iter().position(|byte| *byte == b'"') else {
                    self.text.extend_from_slice(rest);
                    self.text.push(b'\n');
                    return Ok(());
                };
                self.text.extend_from_slice(&rest[..mark]);
                rest = &rest[mark + 1..];
                // Two stand for one.
                if let Some(after) = rest.strip_prefix(b"\"") {
                    self.text.push(b'"');
                    rest = after;
                    continue;
                }
                self.in_quotes = false;
                if !rest.is_empty() && !rest.starts_with(b",") {
                    return Err("text comes after a closing quotation mark");
                }
            } else {
                let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                if field.contains(&b'"') {
                    return Err("a quotation mark inside an unquoted field");
                }
                self.text.extend_from_slice(field);
                rest = after;
            }
            if self.ends.len() == COLUMNS {
                return Err("the row has more than 256 columns");
            }
            self.ends.push(self.text.len());
            match rest.strip_prefix(b",") {
                Some(after) => rest = after,
                None => return Ok(()),
            }
        }
    }

    fn field(&self, n: usize) -> Result<&str, &'static str> {
        let begin = if n == 0 { 0 } else { self.ends[n - 1] };
        let field = std::str::from_utf8(&self.text[begin..self.ends[n]]);
        field.map(str::trim).map_err(|_| "the row is not UTF-8")
    }
}

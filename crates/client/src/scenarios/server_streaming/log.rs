//! Follows a log on the server line by line, across rotations, truncations and
//! reconnects.

use std::{borrow::Cow, fmt};

use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;
use shared_proto::{
    fourmodes::v1::{
        LogEdge, LogPosition, TailLogRequest, TailLogResponse,
        server_streaming_service_client::ServerStreamingServiceClient, tail_log_request::Start,
        tail_log_response::Event,
    },
    limits::MONITORING_HEARTBEAT,
};
use timeline::words::{counted, printable};

use crate::{
    config::Config, failure::Failure, lines::LONGEST_LINE, scenario::Scenario, scenarios::options::Count,
    session::Session, show,
};

/// Follow a log file on the server, like `tail -F`
///
/// With --quiet, stdout gets only the lines: unchanged bytes, unless it is a terminal.
#[derive(Debug, Args)]
#[command(mut_arg("count", |count| count.default_value("0").help(COUNT)))]
pub(crate) struct Log {
    /// Path below the server's --log-root
    file: String,
    /// Number of last lines to start with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, conflicts_with = "from")]
    lines: u32,
    /// Start elsewhere: end, start, or a number of bytes to skip
    #[arg(long, value_name = "PLACE", value_parser = place, allow_negative_numbers = true)]
    from: Option<Place>,
    #[command(flatten)]
    count: Count,
}

const COUNT: &str = "Stop after this many lines; 0 continues until Ctrl-C";

/// Where to begin in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    End,
    Start,
    Offset(u64),
}

fn place(text: &str) -> Result<Place, String> {
    match text {
        "end" => Ok(Place::End),
        "start" => Ok(Place::Start),
        number => {
            let offset = number.parse().map(Place::Offset);
            offset.map_err(|_| "write end, start, or a number of bytes such as 4096".to_owned())
        }
    }
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    file: String,
    lines: u64,
    /// The bytes of these lines, with their line ends.
    bytes: u64,
    rotations: u64,
    truncations: u64,
    /// Rotations that the server noticed too late: the rest of the file before is
    /// missing.
    missing: u64,
    reconnects: u64,
    /// The offset of the next line in the current file, as `--from` takes it.
    offset: u64,
    /// The bytes after the last line shown.
    #[serde(skip)]
    rest: Vec<u8>,
    /// Whether the log exists.
    #[serde(skip)]
    begun: bool,
}

impl Scenario for Log {
    type Report = Report;

    fn takes_stdout(&self, config: &Config) -> bool {
        config.is_bare()
    }

    const NOT_DEMONSTRATED: Option<&'static str> = Some("a server shows only files below its --log-root");

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        self.file.clone_into(&mut report.file);
        let most = if self.count.count == 0 { u64::MAX } else { self.count.count };
        let mut place = Some(match self.from {
            None => Start::LastLines(self.lines),
            Some(Place::End) => Start::Edge(LogEdge::End.into()),
            Some(Place::Start) => Start::Edge(LogEdge::Start.into()),
            Some(Place::Offset(offset)) => Start::Offset(offset),
        });
        let mut calls = 0;
        let followed = session.resuming(async || {
            report.reconnects = calls;
            calls += 1;
            let mut client = ServerStreamingServiceClient::new(session.channel());
            let request = TailLogRequest { file: self.file.clone(), start: place.clone() };
            let request = session.request(request, Some(MONITORING_HEARTBEAT));
            let mut responses = client.tail_log(request).await?.into_inner();
            while report.lines < most {
                let Some(response) = responses.message().await? else {
                    return Err(Failure::answer("the stream ended, although a log never ends"));
                };
                session.progressed();
                let mut bare = Vec::new();
                let position = report.take(response, most, |line| match session.is_bare() {
                    true => bare.extend_from_slice(line),
                    false => session.line(&text(line)),
                })?;
                if !bare.is_empty() {
                    let handed = tokio::task::spawn_blocking(move || show::hand_on(&bare)).await;
                    handed.map_err(|error| Failure::cut_short(&error))??;
                }
                place = Some(Start::Position(position));
            }
            Ok(())
        });
        followed.await
    }
}

impl Report {
    /// Shows each complete line with its line end, up to `most` lines, and returns the
    /// position of the stream.
    fn take(
        &mut self,
        TailLogResponse { event, position }: TailLogResponse,
        most: u64,
        mut tell: impl FnMut(&[u8]),
    ) -> Result<LogPosition, Failure> {
        let position = position.ok_or_else(|| Failure::answer("a response without a position"))?;
        match event {
            Some(Event::Chunk(chunk)) => {
                self.rest.extend_from_slice(&chunk.data);
                self.tell_lines(most, tell);
            }
            Some(Event::Rotated(rotated)) => {
                self.rotations += 1;
                self.missing += u64::from(rotated.rest_missing);
                self.tell_rest(&mut tell);
            }
            Some(Event::Truncated(_)) => {
                self.truncations += 1;
                self.tell_rest(&mut tell);
            }
            Some(Event::Opened(_) | Event::Heartbeat(_)) => {}
            None => return Err(Failure::answer("a response without news or heartbeat")),
        }
        self.begun = true;
        self.offset = position.offset.saturating_sub(self.rest.len() as u64);
        Ok(position)
    }

    fn tell_lines(&mut self, most: u64, mut tell: impl FnMut(&[u8])) {
        let mut told = 0;
        while self.lines < most
            && let Some(length) = first_line(&self.rest[told..])
        {
            tell(&self.rest[told..told + length]);
            told += length;
            self.lines += 1;
        }
        self.bytes += told as u64;
        self.rest.drain(..told);
    }

    /// The end of a file ends its last line too.
    fn tell_rest(&mut self, tell: &mut impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            self.lines += 1;
            self.bytes += self.rest.len() as u64;
            self.rest.push(b'\n');
            tell(&self.rest);
            self.rest.clear();
        }
    }
}

/// A line without its line end.
fn text(line: &[u8]) -> Cow<'_, str> {
    let line = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
    String::from_utf8_lossy(line)
}

/// The length of the first line with its line end. A line that is too long is split
/// between characters, so that a file without line ends cannot fill the memory.
fn first_line(bytes: &[u8]) -> Option<usize> {
    // A line end has two bytes at most.
    let bytes = &bytes[..bytes.len().min(LONGEST_LINE + 2)];
    if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        if line.len() <= LONGEST_LINE {
            return Some(end + 1);
        }
    }
    if bytes.len() < LONGEST_LINE + 2 {
        return None;
    }
    // In UTF-8 every byte of a character but the first begins with the bits 10.
    let begins = |at: &usize| bytes[*at] & 0xc0 != 0x80;
    let end = (LONGEST_LINE - 3..=LONGEST_LINE).rev().find(begins).unwrap_or(LONGEST_LINE);
    Some(end)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.begun {
            return Ok(());
        }
        write!(f, "{} of {}", counted(self.lines, "line"), printable(&self.file))?;
        write!(f, ", {}, up to offset {}", HumanBytes(self.bytes), self.offset)?;
        let happened =
            [(self.rotations, "rotation"), (self.truncations, "truncation"), (self.reconnects, "reconnect")];
        happened
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, what)| write!(f, ", {}", counted(count, what)))?;
        match self.missing {
            0 => Ok(()),
            missing => write!(f, "; the end of {} is missing", counted(missing, "file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared_proto::fourmodes::v1::{LogChunk, LogRotated};

    use super::*;

    /// Returns the lines shown of some chunks, and the report after them.
    fn told(chunks: &[&[u8]], most: u64) -> (Vec<String>, Report) {
        let (mut log, mut lines, mut offset) = (Report::default(), Vec::new(), 0);
        for chunk in chunks {
            offset += chunk.len() as u64;
            let event = Some(Event::Chunk(LogChunk { data: chunk.to_vec() }));
            let position = Some(LogPosition { offset, ..LogPosition::default() });
            log.take(TailLogResponse { event, position }, most, |line| lines.push(text(line).into_owned()))
                .unwrap();
        }
        (lines, log)
    }

    #[test]
    fn lines_are_told_when_they_are_whole_wherever_the_chunks_end() {
        let text = "one\r\n\nzwei €\nthr".as_bytes();
        for size in 1..=text.len() {
            let (lines, log) = told(&text.chunks(size).collect::<Vec<_>>(), u64::MAX);
            assert_eq!(lines, ["one", "", "zwei €"], "in chunks of {size}");
            assert_eq!((log.lines, log.bytes, log.offset), (3, 15, 15));
        }
    }

    #[test]
    fn after_as_many_lines_as_were_asked_for_the_offset_is_that_of_the_next_one() {
        let (lines, log) = told(&[b"a\nb\nc\nd"], 2);
        assert_eq!((lines, log.offset, log.bytes), (vec!["a".to_owned(), "b".to_owned()], 4, 4));
    }

    #[test]
    fn a_line_without_end_comes_in_pieces_and_the_end_of_a_file_ends_it() {
        let long = vec![b'x'; 2 * LONGEST_LINE + 2];
        let (lines, mut log) = told(&[&long[..10], &long[10..]], u64::MAX);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LONGEST_LINE; 2]);
        let event = Some(Event::Rotated(LogRotated { rest_missing: false }));
        let rotated = TailLogResponse { event, position: Some(LogPosition::default()) };
        let mut last = String::new();
        log.take(rotated, u64::MAX, |line| last = text(line).into_owned()).unwrap();
        assert_eq!((last.as_str(), log.lines, log.offset, log.rotations), ("xx", 3, 0, 1));
    }

    #[test]
    fn a_line_of_the_longest_length_is_one_line_whatever_ends_it() {
        for end in ["\n", "\r\n"] {
            for (length, expected) in
                [(LONGEST_LINE, vec![LONGEST_LINE, 6]), (LONGEST_LINE + 1, vec![LONGEST_LINE, 1, 6])]
            {
                let text = format!("{}{end}second{end}", "x".repeat(length));
                for size in [1000, text.len()] {
                    let (lines, _) = told(&text.as_bytes().chunks(size).collect::<Vec<_>>(), u64::MAX);
                    assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), expected, "{size}");
                }
            }
        }
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for ascii in 0..4 {
            let text = format!("{}{}\n", "x".repeat(ascii), "€".repeat(LONGEST_LINE / 2));
            let (lines, log) = told(&[text.as_bytes()], u64::MAX);
            assert_eq!((lines.concat() + "\n", log.bytes), (text.clone(), text.len() as u64));
        }
    }
}

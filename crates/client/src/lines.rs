//! Lines of bounded length: an input without line ends is no reason to fill the
//! memory.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    ops::Range,
};

/// In bytes, without the end of the line.
pub(crate) const LONGEST_LINE: usize = 64 << 10;

/// How much is read at a time.
const PIECE: usize = 64 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Lines that end with LF, CR or both.
pub(crate) struct Lines<R> {
    input: BufReader<R>,
    at_end: bool,
    buffer: Vec<u8>,
    /// How many bytes of the input came before the buffer.
    passed: u64,
    /// The current line without its end.
    line: Range<usize>,
    next: Next,
    /// Where the line begins that [`advance`](Self::advance) went to, and what
    /// comes after it.
    begin: usize,
    after: Next,
}

/// Where the next line begins.
#[derive(Debug, Clone, Copy, Default)]
struct Next {
    at: usize,
    /// Whether the line before it ended with CR, so that LF here ends it too.
    after_cr: bool,
    /// Of the line before it, from 1.
    number: u64,
}

impl<R: Read> Lines<R> {
    pub(crate) fn of(input: R) -> Self {
        let (next, after) = (Next::default(), Next::default());
        let input = BufReader::with_capacity(PIECE, input);
        Self { input, at_end: false, buffer: Vec::new(), passed: 0, line: 0..0, next, begin: 0, after }
    }

    /// The current line without its end. One that is too long has one byte more
    /// than [`LONGEST_LINE`]; its rest is gone.
    pub(crate) fn line(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// Of the line that [`advance`](Self::advance) went to, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.after.number
    }

    /// Of the current line.
    pub(crate) fn last_number(&self) -> u64 {
        self.next.number
    }

    /// How many bytes the input has up to the next line.
    pub(crate) fn position(&self) -> u64 {
        self.passed + self.next.at as u64
    }

    /// Whether the next line, or its beginning, is still to come.
    pub(crate) fn would_wait(&self) -> bool {
        self.next.at == self.buffer.len()
    }

    /// Goes to the next line that is not blank; false at the end of the input.
    pub(crate) fn advance(&mut self) -> io::Result<bool> {
        loop {
            if self.next.at >= PIECE {
                self.buffer.drain(..self.next.at);
                self.passed += self.next.at as u64;
                self.next.at = 0;
            }
            if !self.begin()? {
                return Ok(false);
            }
            self.begin = self.next.at;
            match self.end_of_line(LONGEST_LINE)? {
                Some(end) => self.go_past(end),
                None => self.cut()?,
            }
            if self.next.number == 1 && self.line().starts_with(BYTE_ORDER_MARK) {
                self.line.start += BYTE_ORDER_MARK.len();
            }
            self.after = self.next;
            if !self.line().trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// Goes to the next line, blank or not; false when there is none, or when all
    /// since the last [`advance`](Self::advance) are too long together.
    pub(crate) fn extend(&mut self) -> io::Result<bool> {
        if !self.begin()? {
            return Ok(false);
        }
        let room = LONGEST_LINE.saturating_sub(self.next.at - self.begin);
        let end = self.end_of_line(room)?;
        Ok(end.map(|end| self.go_past(end)).is_some())
    }

    /// Undoes what [`extend`](Self::extend) did since the last
    /// [`advance`](Self::advance): the next line is the one after that.
    pub(crate) fn back(&mut self) {
        self.next = self.after;
    }

    /// Whether there is a next line.
    fn begin(&mut self) -> io::Result<bool> {
        if self.next.after_cr && (!self.would_wait() || self.fill()?) {
            self.next.at += usize::from(self.buffer[self.next.at] == b'\n');
            self.next.after_cr = false;
        }
        Ok(!self.would_wait() || self.fill()?)
    }

    /// Where the next line ends, unless it has more than `most` bytes.
    fn end_of_line(&mut self, most: usize) -> io::Result<Option<usize>> {
        let begin = self.next.at;
        let mut scanned = begin;
        loop {
            let end = self.find_end(scanned);
            scanned = end.unwrap_or(self.buffer.len());
            if scanned - begin > most {
                return Ok(None);
            }
            if end.is_some() || !self.fill()? {
                return Ok(Some(scanned));
            }
        }
    }

    fn find_end(&self, from: usize) -> Option<usize> {
        let end = self.buffer[from..].iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        end.map(|end| from + end)
    }

    fn go_past(&mut self, end: usize) {
        self.line = self.next.at..end;
        let rest = &self.buffer[end..];
        self.next.at += match rest {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        } + self.line.len();
        self.next.after_cr = rest == b"\r";
        self.next.number += 1;
    }

    /// Keeps the beginning of the next line and lets go of the rest of it.
    fn cut(&mut self) -> io::Result<()> {
        let kept = self.next.at + LONGEST_LINE + 1;
        let end = loop {
            match self.find_end(kept) {
                Some(end) => break end,
                None => {
                    self.passed += (self.buffer.len() - kept) as u64;
                    self.buffer.truncate(kept);
                    if !self.fill()? {
                        break kept;
                    }
                }
            }
        };
        self.go_past(end);
        self.line.end = kept;
        Ok(())
    }

    /// False at the end of the input.
    fn fill(&mut self) -> io::Result<bool> {
        if !self.at_end {
            let piece = loop {
                match self.input.fill_buf() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    piece => break piece?.len(),
                }
            };
            self.buffer.extend_from_slice(self.input.buffer());
            self.input.consume(piece);
            self.at_end = piece == 0;
        }
        Ok(!self.at_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Comes in pieces of this size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn cr_lf_and_both_end_a_line_however_it_comes() {
        let input = b"\xef\xbb\xbfa\r\nb\rc\n\n\r\n \r\rd\r\n\ne";
        for piece in 1..=input.len() {
            let mut lines = Lines::of(Pieces(input, piece));
            let mut all = Vec::new();
            while lines.advance().unwrap() {
                all.push((lines.number(), String::from_utf8_lossy(lines.line()).into_owned()));
            }
            let expected = [(1, "a"), (2, "b"), (3, "c"), (8, "d"), (10, "e")];
            assert_eq!(all, expected.map(|(number, line)| (number, line.to_owned())), "by {piece}");
            assert_eq!(lines.position(), input.len() as u64);
        }
    }

    #[test]
    fn lines_that_belong_together_can_be_taken_back() {
        for piece in [1, 2, 100] {
            let mut lines = Lines::of(Pieces(b"a\r\n\nb\rc", piece));
            assert!(lines.advance().unwrap() && lines.extend().unwrap());
            assert_eq!((lines.line(), lines.number(), lines.last_number()), (&b""[..], 1, 2));
            assert!(lines.extend().unwrap() && lines.extend().unwrap());
            assert_eq!((lines.line(), lines.last_number()), (&b"c"[..], 4));
            assert!(!lines.extend().unwrap());
            lines.back();
            assert!(lines.advance().unwrap());
            assert_eq!((lines.line(), lines.number()), (&b"b"[..], 3));
        }
    }

    #[test]
    fn a_line_has_a_longest_length_and_so_have_those_that_belong_together() {
        let mut input = [vec![b'x'; 3 * LONGEST_LINE], b"\r\ny\n".to_vec()].concat();
        input.extend_from_slice(&b"z\n".repeat(LONGEST_LINE));
        for piece in [1000, usize::MAX] {
            let mut lines = Lines::of(Pieces(&input, piece));
            assert!(lines.advance().unwrap());
            assert_eq!(lines.line().len(), LONGEST_LINE + 1);
            assert!(lines.advance().unwrap());
            assert_eq!((lines.line(), lines.number()), (&b"y"[..], 2));
            let mut more = 0;
            while lines.extend().unwrap() {
                more += 1;
            }
            assert_eq!(more, LONGEST_LINE / 2 - 1);
            assert!(lines.buffer.len() <= LONGEST_LINE + 2 * PIECE);
            lines.back();
            assert!(lines.advance().unwrap());
            assert_eq!(lines.number(), 3);
        }
    }
}

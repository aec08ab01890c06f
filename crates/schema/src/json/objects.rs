//! Reads any number of JSON values, one after the other.

use std::io::{self, Read};

/// How many bytes are read at a time.
const PIECE: usize = 64 << 10;

/// Splits an input into its JSON values. Holds one value in memory at a time.
#[derive(Debug)]
pub struct Objects<R> {
    input: R,
    buffer: Vec<u8>,
    /// Where the part of `buffer` that was not returned yet begins.
    begin: usize,
    longest: usize,
    at_end: bool,
    line: u64,
    column: u64,
}

/// One JSON value, not parsed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<'a> {
    /// The text, from its first character to its last.
    pub text: &'a str,
    /// The line in which it begins, from 1.
    pub line: u64,
    /// The column in which it begins, in bytes, from 1.
    pub column: u64,
}

/// Why there is no next value.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The input cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// A value is longer than a message may be.
    #[error("line {line}: the JSON that begins here has more than {longest} bytes")]
    TooLong {
        /// The line in which it begins.
        line: u64,
        /// The limit in bytes.
        longest: usize,
    },
    /// The input has bytes that are not UTF-8.
    #[error("line {line}: the JSON that begins here is not UTF-8")]
    NotUtf8 {
        /// The line in which it begins.
        line: u64,
    },
}

impl<R: Read> Objects<R> {
    /// Accepts values of up to `longest` bytes.
    pub fn new(input: R, longest: usize) -> Self {
        Self { input, buffer: Vec::new(), begin: 0, longest, at_end: false, line: 1, column: 1 }
    }

    /// The next value, or `None` at the end. A value that the end of the input cuts off
    /// is returned as it is. An object is returned as soon as its last brace has been
    /// read.
    ///
    /// # Errors
    ///
    /// When the input cannot be read, or a value is too long or not UTF-8.
    pub fn next_object(&mut self) -> Result<Option<Object<'_>>, ObjectsError> {
        if !self.skip_space()? {
            return Ok(None);
        }
        let (line, column) = (self.line, self.column);
        let mut scan = Scan::default();
        let mut length = 0;
        let end = loop {
            match scan.find_end(&self.buffer[self.begin + length..]) {
                Some(end) => break length + end,
                None => length = self.buffer.len() - self.begin,
            }
            if length > self.longest {
                return Err(ObjectsError::TooLong { line, longest: self.longest });
            }
            if !self.fill()? {
                break length;
            }
        };
        if end > self.longest {
            return Err(ObjectsError::TooLong { line, longest: self.longest });
        }
        let from = self.begin;
        self.go_past(end);
        match std::str::from_utf8(&self.buffer[from..from + end]) {
            Ok(text) => Ok(Some(Object { text, line, column })),
            Err(_) => Err(ObjectsError::NotUtf8 { line }),
        }
    }

    /// Skips white space. Returns whether anything follows.
    fn skip_space(&mut self) -> Result<bool, ObjectsError> {
        /// Windows programs put it at the beginning of a file.
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        loop {
            let rest = &self.buffer[self.begin..];
            let is_cut =
                !rest.is_empty() && rest.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(rest);
            if is_cut && (self.line, self.column) == (1, 1) && self.fill()? {
                continue;
            }
            let rest = &self.buffer[self.begin..];
            let marks = match (self.line, self.column) {
                (1, 1) if rest.starts_with(BYTE_ORDER_MARK) => BYTE_ORDER_MARK.len(),
                _ => 0,
            };
            let space = rest[marks..].iter().take_while(|byte| byte.is_ascii_whitespace()).count() + marks;
            self.go_past(space);
            if self.begin < self.buffer.len() {
                return Ok(true);
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    fn go_past(&mut self, length: usize) {
        let passed = &self.buffer[self.begin..self.begin + length];
        match passed.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => {
                self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
                self.column = (passed.len() - last) as u64;
            }
            None => self.column += length as u64,
        }
        self.begin += length;
    }

    fn fill(&mut self) -> Result<bool, ObjectsError> {
        if self.at_end {
            return Ok(false);
        }
        if self.begin > 0 {
            self.buffer.drain(..self.begin);
            self.begin = 0;
        }
        let filled = self.buffer.len();
        self.buffer.resize(filled + PIECE, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        self.at_end = read? == 0;
        Ok(!self.at_end)
    }
}

/// Finds the end of a value that may span several reads.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Within a number or a word, which ends at the first character that cannot be part
    /// of it.
    in_word: bool,
}

impl Scan {
    /// The number of bytes of `piece` that belong to the value, if it ends there.
    fn find_end(&mut self, piece: &[u8]) -> Option<usize> {
        for (at, byte) in piece.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if std::mem::take(&mut self.escaped) => {}
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            let ends_word = byte.is_ascii_whitespace() || matches!(byte, b'{' | b'[' | b'"' | b'}' | b']');
            if self.depth == 0 && self.in_word && ends_word {
                return Some(at);
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth <= 1 => return Some(at + 1),
                b'}' | b']' => self.depth -= 1,
                _ => self.in_word = true,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An input that delivers a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.1.min(self.0.len()).min(buffer.len());
            buffer[..piece].copy_from_slice(&self.0[..piece]);
            self.0 = &self.0[piece..];
            Ok(piece)
        }
    }

    fn split(text: &str, at_a_time: usize) -> Vec<(String, u64, u64)> {
        let mut objects = Objects::new(Slow(text.as_bytes(), at_a_time), 100);
        let mut found = Vec::new();
        while let Some(object) = objects.next_object().unwrap() {
            found.push((object.text.to_owned(), object.line, object.column));
        }
        found
    }

    #[test]
    fn values_are_told_apart_wherever_the_input_is_cut() {
        let text = "\u{feff}{\"a\": \"}\\\"\"}{\"b\":[{}]}\n\n  7 \"x y\"\ttrue{}\n[1,\n2] {\"cut\": ";
        for at_a_time in 1..text.len() {
            let found = split(text, at_a_time);
            let texts: Vec<_> = found.iter().map(|(text, ..)| text.as_str()).collect();
            let all =
                ["{\"a\": \"}\\\"\"}", "{\"b\":[{}]}", "7", "\"x y\"", "true", "{}", "[1,\n2]", "{\"cut\": "];
            assert_eq!(texts, all, "{at_a_time}");
            assert_eq!((found[2].1, found[2].2), (3, 3));
            assert_eq!((found[7].1, found[7].2), (5, 4));
        }
        assert!(split(" \n ", 1).is_empty());
    }

    #[test]
    fn a_value_that_is_too_long_is_refused_and_never_held() {
        let long = io::repeat(b'[');
        let error = Objects::new(long, 1000).next_object().map(|_| ()).unwrap_err();
        assert!(matches!(error, ObjectsError::TooLong { line: 1, longest: 1000 }));
        let error = Objects::new(&b"\n\"\xff\""[..], 1000).next_object().map(|_| ()).unwrap_err();
        assert!(matches!(error, ObjectsError::NotUtf8 { line: 2 }));
    }
}

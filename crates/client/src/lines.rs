//! Lines of bounded length: an input without line ends is no reason to fill the
//! memory.

use std::io::{self, BufRead, BufReader, Read};

/// In bytes, without the end of the line.
pub(crate) const LONGEST_LINE: usize = 64 << 10;

pub(crate) struct Lines<R> {
    input: BufReader<R>,
    /// Of the current line, from 1.
    pub(crate) number: u64,
    /// The current line without its end. One that is too long has one byte more
    /// than [`LONGEST_LINE`]; its rest is gone.
    pub(crate) line: Vec<u8>,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl<R: Read> Lines<R> {
    pub(crate) fn of(input: R) -> Self {
        Self { input: BufReader::with_capacity(256 << 10, input), number: 0, line: Vec::new() }
    }

    /// Goes to the next line that is not blank; false at the end of the input.
    pub(crate) fn advance(&mut self) -> io::Result<bool> {
        while self.read()? {
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the next line, or its beginning, is still to come.
    pub(crate) fn would_wait(&self) -> bool {
        self.input.buffer().is_empty()
    }

    fn read(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.number += 1;
        let most = LONGEST_LINE as u64 + 1;
        let read = self.input.by_ref().take(most).read_until(b'\n', &mut self.line)?;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if self.line.len() > LONGEST_LINE {
            self.input.skip_until(b'\n')?;
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        if self.number == 1 && self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(read > 0)
    }
}

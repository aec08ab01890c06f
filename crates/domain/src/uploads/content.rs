//! Content that is open, wherever its bytes are.

use std::io::{Read, Result, Seek, SeekFrom};

use super::pieces::Reader;
use crate::platform::File;

/// Reads content. Blocks.
#[derive(Debug)]
pub enum Content {
    /// On this server's disk.
    File(File),
    /// In the store.
    Pieces(Reader),
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Pieces(pieces) => pieces.read(buffer),
        }
    }
}

impl Seek for Content {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Pieces(pieces) => pieces.seek(to),
        }
    }
}

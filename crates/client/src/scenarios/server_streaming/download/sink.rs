//! Where the bytes of a download go.

use std::path::Path;

use blake3::{Hash, Hasher};

use super::part::Part;
use crate::{failure::Failure, show};

/// What stands for stdout.
pub(super) const STDOUT: &str = "-";

#[derive(Debug)]
pub(super) enum Sink {
    File(Part),
    /// Bytes are out before their checksum is known.
    Stdout(Hasher),
}

impl Sink {
    /// As [`Part::open`]. Blocks.
    pub(super) fn open(output: &Path, hash: &Hash, size: u64) -> Result<Self, Failure> {
        match output == Path::new(STDOUT) {
            true => Ok(Self::Stdout(Hasher::new())),
            false => Part::open(output, hash, size).map(Self::File),
        }
    }

    /// In bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::File(part) => part.length(),
            Self::Stdout(hasher) => hasher.count(),
        }
    }

    /// Blocks.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::File(part) => part.append(bytes),
            Self::Stdout(hasher) => {
                hasher.update(bytes);
                show::hand_on(bytes)
            }
        }
    }

    /// As [`Part::finish`]. Blocks.
    pub(super) fn finish(self, hash: &Hash, output: &Path, replace: bool) -> Result<(), Failure> {
        match self {
            Self::File(part) => part.finish(hash, output, replace),
            Self::Stdout(hasher) => match hasher.finalize() {
                found if found == *hash => Ok(()),
                found => Err(Failure::damaged(format!(
                    "the content on stdout has the BLAKE3 checksum {found}, not {hash}"
                ))),
            },
        }
    }
}

//! Reads the file ahead of its consumer.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use blake3::{Hash, Hasher};
use bytes::Bytes;
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use crate::{bar, failure::Failure};

/// How many chunks are read ahead.
const AHEAD: usize = 4;

/// How many bytes are read at a time for the checksum.
const HASHED: usize = 1 << 20;

/// Hashes the whole file, while another thread reads it. Returns the length as well:
/// the file as it is now is what will be uploaded. Blocks.
pub(super) fn checksum(file: &Path, progress: &ProgressBar) -> Result<(Hash, u64), Failure> {
    bar::of_bytes(progress, fs::metadata(file).map_or(0, |file| file.len()), "the disk, for the checksum");
    let (mut hasher, mut chunks) = (Hasher::new(), read_ahead(file, 0, u64::MAX, HASHED));
    while let Some(chunk) = chunks.blocking_recv() {
        let chunk = chunk?;
        hasher.update(&chunk);
        progress.inc(chunk.len() as u64);
    }
    Ok((hasher.finalize(), hasher.count()))
}

/// Reads a file in chunks in a thread of its own, up to `to` or to its end.
pub(super) fn read_ahead(
    file: &Path,
    from: u64,
    to: u64,
    chunk: usize,
) -> mpsc::Receiver<Result<Bytes, Failure>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let path = file.to_owned();
    std::thread::spawn(move || {
        let chunks = || -> io::Result<()> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut file = file.take(to - from);
            loop {
                let mut bytes = Vec::with_capacity(file.limit().min(chunk as u64) as usize);
                file.by_ref().take(chunk as u64).read_to_end(&mut bytes)?;
                if bytes.is_empty() || sender.blocking_send(Ok(bytes.into())).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = chunks() {
            // Without a receiver the call is over, and the error does not matter.
            let _ = sender.blocking_send(Err(Failure::input(&path, format!("cannot be read: {error}"))));
        }
    });
    receiver
}

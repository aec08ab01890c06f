//! Compressed messages, for display.

use std::io::Read;

/// How much of a message is decompressed, in bytes.
const MOST: u64 = 1 << 20;

/// A whole message without its compression. None, when it is too long, is not what
/// it says, or nobody knows the encoding.
pub(crate) fn decompressed(encoding: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    match encoding {
        "gzip" => read(flate2::read::MultiGzDecoder::new(bytes)),
        "deflate" => read(flate2::read::ZlibDecoder::new(bytes)),
        "zstd" => read(zstd::Decoder::new(bytes).ok()?),
        _ => None,
    }
}

fn read(decoder: impl Read) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let read = decoder.take(MOST + 1).read_to_end(&mut plain).ok()?;
    (read as u64 <= MOST).then_some(plain)
}

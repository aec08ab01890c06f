//! Compressed messages, for display.

use std::io::Read;

/// How much of a message is decompressed, in bytes.
const MOST: u64 = 1 << 20;

/// A whole message without its compression. None when it is too long, is not what it
/// says, or has an encoding that is not known here.
pub(crate) fn plain(encoding: &str, bytes: &[u8]) -> Option<Vec<u8>> {
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_encoding_is_undone() {
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(b"hello").unwrap();
        assert_eq!(plain("deflate", &deflate.finish().unwrap()).unwrap(), b"hello");
        assert_eq!(plain("gzip", &gzip(b"hello")).unwrap(), b"hello");
        assert_eq!(plain("zstd", &zstd::encode_all(&b"hello"[..], 1).unwrap()).unwrap(), b"hello");
    }

    #[test]
    fn what_is_wrong_unknown_or_too_long_is_not_shown() {
        assert_eq!(plain("br", b"hello"), None);
        let whole = gzip(b"hello");
        for encoding in ["gzip", "deflate", "zstd"] {
            assert_eq!(plain(encoding, b"hello"), None);
        }
        assert_eq!(plain("gzip", &whole[..whole.len() - 9]), None);
        let most = vec![0; MOST as usize];
        assert_eq!(plain("gzip", &gzip(&most)).unwrap(), most);
        assert_eq!(plain("gzip", &gzip(&vec![0; MOST as usize + 1])), None);
    }
}

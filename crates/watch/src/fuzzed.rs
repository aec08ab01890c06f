//! What is true of whatever passes.

use std::time::Duration;

use timeline::Side;

use crate::{Depth, Seen, decoder::Decoder, http2::PREFACE, numbers::Numbers};

/// Decodes what two sides say: a byte that says whether it begins as HTTP/2 does, by its
/// lowest bit, and whether both sides send SETTINGS first, by the next one, and then pieces, each with a byte that has the side in its lowest bit and the length in
/// the others.
///
/// Panics when something else is seen where the pieces are cut otherwise.
pub fn watched(bytes: &[u8]) {
    let Some((first, mut rest)) = bytes.split_first() else { return };
    let mut pieces: Vec<(Side, &[u8])> = Vec::new();
    if first & 1 == 1 {
        pieces.push((Side::Client, PREFACE));
    }
    if first & 2 == 2 {
        let settings = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
        pieces.extend([(Side::Client, &settings[..]), (Side::Server, settings)]);
    }
    while let Some(head) = rest.split_off_first() {
        let from = if head & 1 == 0 { Side::Client } else { Side::Server };
        let length = rest.len().min(usize::from(head >> 1));
        pieces.push((from, rest.split_off(..length).unwrap_or_default()));
    }
    assert_eq!(seen(&pieces, 1), seen(&pieces, usize::MAX), "it depends on where the pieces are cut");
}

fn seen(pieces: &[(Side, &[u8])], size: usize) -> Vec<(u64, Seen)> {
    let mut decoder =
        Decoder::new(Numbers::default(), Depth { keep: 64, frames: true, windows: true, ..Depth::default() });
    let mut seen = Vec::new();
    for (from, piece) in pieces {
        piece.chunks(size).for_each(|piece| seen.extend(decoder.pass(*from, piece, Duration::ZERO)));
    }
    seen.extend(decoder.half_closed(Side::Server, Side::Client));
    seen.extend(decoder.closed("closed"));
    seen
}

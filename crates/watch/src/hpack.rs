//! HPACK, RFC 7541: what the header blocks of one direction say.
//!
//! Our own, since it has to say what came from the table, and has to be bounded
//! whatever a peer sends: nothing is copied of a field that came from a table.

use std::{collections::VecDeque, sync::LazyLock};

/// The largest table that is followed, in bytes. An encoder may use as much as its
/// peer allows, which is 4 KiB unless that one says otherwise.
const LARGEST_TABLE: usize = 1 << 20;

/// What each entry counts for besides its name and its value, in bytes.
const OVERHEAD: usize = 32;

/// How a field was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// As a number: it was in the static table or in the dynamic one.
    Table,
    /// In full, and from now on it is in the dynamic table.
    Added,
    /// In full.
    Literal,
}

/// A block that cannot be read, and no later one either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a header block is not valid HPACK")]
pub(crate) struct Invalid;

/// The dynamic table of one direction.
#[derive(Debug)]
pub(crate) struct Hpack {
    /// The newest first.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// What the entries count for, in bytes, and for how much they may.
    size: usize,
    most: usize,
}

impl Hpack {
    pub(crate) fn new() -> Self {
        Self { table: VecDeque::new(), size: 0, most: 4096 }
    }

    /// What the entries of the dynamic table count for, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Hands over each field of a block. After an error the table is not what the
    /// encoder's is.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        mut field: impl FnMut(&[u8], &[u8], How),
    ) -> Result<(), Invalid> {
        while let Some(&first) = block.first() {
            match first {
                0x80.. => {
                    let index = integer(&mut block, 7)?;
                    let (name, value) = self.entry(index)?;
                    field(name, value, How::Table);
                }
                0x40.. => {
                    let (name, value) = self.literal(&mut block, 6)?;
                    field(&name, &value, How::Added);
                    self.size += name.len() + value.len() + OVERHEAD;
                    self.table.push_front((name, value));
                    self.evict();
                }
                0x20.. => {
                    let most = integer(&mut block, 5)?;
                    if most > LARGEST_TABLE {
                        return Err(Invalid);
                    }
                    self.most = most;
                    self.evict();
                }
                _ => {
                    let (name, value) = self.literal(&mut block, 4)?;
                    field(&name, &value, How::Literal);
                }
            }
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Invalid> {
        let index = index.checked_sub(1).ok_or(Invalid)?;
        match STATIC.get(index) {
            Some((name, value)) => Ok((name.as_bytes(), value.as_bytes())),
            None => {
                let (name, value) = self.table.get(index - STATIC.len()).ok_or(Invalid)?;
                Ok((name, value))
            }
        }
    }

    fn literal(&self, block: &mut &[u8], prefix: u32) -> Result<(Vec<u8>, Vec<u8>), Invalid> {
        let name = match integer(block, prefix)? {
            0 => string(block)?,
            index => self.entry(index)?.0.to_vec(),
        };
        Ok((name, string(block)?))
    }

    fn evict(&mut self) {
        while self.size > self.most
            && let Some((name, value)) = self.table.pop_back()
        {
            self.size -= name.len() + value.len() + OVERHEAD;
        }
    }
}

/// Section 5.1. `prefix` is how many bits of the first byte belong to it.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Invalid> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(byte(block)?) & mask;
    if value < mask {
        return Ok(value);
    }
    // Four more bytes hold more than any length here.
    for shift in [0, 7, 14, 21] {
        let next = byte(block)?;
        value += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Invalid)
}

fn byte(block: &mut &[u8]) -> Result<u8, Invalid> {
    block.split_off_first().copied().ok_or(Invalid)
}

/// Section 5.2.
fn string(block: &mut &[u8]) -> Result<Vec<u8>, Invalid> {
    let is_huffman = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(block, 7)?;
    let bytes = block.split_off(..length).ok_or(Invalid)?;
    if is_huffman { huffman(bytes) } else { Ok(bytes.to_vec()) }
}

/// Section 5.2 and appendix B. The code is canonical: of each length the codes
/// follow each other, so a table by length is all it takes.
fn huffman(bytes: &[u8]) -> Result<Vec<u8>, Invalid> {
    let codes = &*CODES;
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    // The bits that are not used up, the next one in front, and how many they are.
    let (mut bits, mut have) = (0_u64, 0_usize);
    let mut rest = bytes.iter();
    loop {
        while have <= 56
            && let Some(next) = rest.next()
        {
            bits |= u64::from(*next) << (56 - have);
            have += 8;
        }
        let window = (bits >> 32) as u32;
        let found = (5..=30).find(|length| window < codes.end[*length]);
        let length = match found {
            Some(length) if length <= have => length,
            // What is left over is less than a byte, and all ones.
            _ if have < 8 && bits == !(u64::MAX >> have) => return Ok(text),
            _ => return Err(Invalid),
        };
        let nth = (window - codes.begin[length]) >> (32 - length);
        match codes.symbols.get(codes.before[length] + nth as usize) {
            Some(symbol) if *symbol < 256 => text.push(*symbol as u8),
            // The end of a string is never sent.
            _ => return Err(Invalid),
        }
        bits <<= length;
        have -= length;
    }
}

/// The codes by their length in bits, each moved to the left of 32 bits.
struct Codes {
    begin: [u32; 31],
    /// One past the last code. No code of a length is below the end of a shorter one.
    end: [u32; 31],
    /// How many symbols have shorter codes.
    before: [usize; 31],
    /// By length, and then by their number.
    symbols: Vec<u16>,
}

static CODES: LazyLock<Codes> = LazyLock::new(|| {
    let mut codes = Codes { begin: [0; 31], end: [0; 31], before: [0; 31], symbols: Vec::new() };
    let mut code = 0_u64;
    for length in 1..=30 {
        codes.before[length] = codes.symbols.len();
        codes.begin[length] = code as u32;
        let of_length = (0_u16..).zip(LENGTHS).filter(|(_, it)| usize::from(*it) == length);
        codes.symbols.extend(of_length.map(|(symbol, _)| symbol));
        code += ((codes.symbols.len() - codes.before[length]) as u64) << (32 - length);
        // The last code ends at 2^32, where no window gets.
        codes.end[length] = code.min(u64::from(u32::MAX)) as u32;
    }
    codes
});

/// Of the code of each byte, in bits; the last one is the end of a string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

#[cfg(test)]
mod tests;

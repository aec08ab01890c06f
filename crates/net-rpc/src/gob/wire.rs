//! Numbers and lengths, as they are on the wire.

use super::Error;

/// The ids that both ends know without a descriptor.
pub(crate) mod id {
    pub(crate) const BOOL: i64 = 1;
    pub(crate) const INT: i64 = 2;
    pub(crate) const UINT: i64 = 3;
    pub(crate) const FLOAT: i64 = 4;
    pub(crate) const BYTES: i64 = 5;
    pub(crate) const STRING: i64 = 6;
    pub(crate) const COMPLEX: i64 = 7;
    pub(crate) const INTERFACE: i64 = 8;
    /// The first id of a type that a descriptor defines.
    pub(crate) const FIRST: i64 = 64;
}

/// The part of a message that nobody has read yet.
#[derive(Debug)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn uint(&mut self) -> Result<u64, Error> {
        let (value, rest) = uint(self.0)?.ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(value)
    }

    pub(crate) fn int(&mut self) -> Result<i64, Error> {
        let bits = self.uint()?;
        let value = (bits >> 1).cast_signed();
        Ok(if bits & 1 == 1 { !value } else { value })
    }

    pub(crate) fn float(&mut self) -> Result<f64, Error> {
        Ok(f64::from_bits(self.uint()?.swap_bytes()))
    }

    /// A count of elements. Each takes at least one byte, so no count exceeds what is left.
    pub(crate) fn count(&mut self) -> Result<usize, Error> {
        let count = self.uint()?;
        usize::try_from(count).ok().filter(|count| *count <= self.0.len()).ok_or(Error::Truncated)
    }

    /// Bytes with their length before them.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let (bytes, rest) = self.count().map(|count| self.0.split_at(count))?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::Corrupt("a string is not UTF-8"))
    }
}

/// The number at the start of `bytes`, and what follows it. `None`: more bytes are needed.
pub(crate) fn uint(bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Error> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    if first < 0x80 {
        return Ok(Some((u64::from(first), rest)));
    }
    let length = usize::from(first.wrapping_neg());
    if length > size_of::<u64>() {
        return Err(Error::Corrupt("a number is longer than 64 bits"));
    }
    let Some((digits, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    let value = digits.iter().fold(0, |value, digit| value << 8 | u64::from(*digit));
    Ok(Some((value, rest)))
}

pub(crate) fn put_uint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value.to_be_bytes()[7]);
        return;
    }
    let skipped = value.leading_zeros() / 8;
    let digits = &value.to_be_bytes()[skipped as usize..];
    // The count of bytes, negated.
    out.push((skipped.to_be_bytes()[3]).wrapping_sub(8));
    out.extend_from_slice(digits);
}

pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    let bits = value.cast_unsigned();
    put_uint(out, if value < 0 { !bits << 1 | 1 } else { bits << 1 });
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

//! gRPC's framing of messages in a body: one flag byte, four bytes of length, the
//! message. The boundaries of messages and of body chunks are independent.

/// The meaning of the next bytes of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A message of `length` bytes begins.
    Begin {
        /// 1 for a compressed message, otherwise 0. Any other value is not valid gRPC.
        flag: u8,
        /// Its length on the wire, in bytes, without the prefix.
        length: u32,
    },
    /// A piece of the message that began.
    Data(&'a [u8]),
    /// The message is complete.
    End,
}

/// Finds the messages in a body that arrives in chunks of any size.
#[derive(Debug, Default)]
pub struct Frames {
    prefix: [u8; 5],
    /// How many bytes of the prefix have arrived.
    have: usize,
    /// The length of the message and the number of missing bytes.
    length: u32,
    missing: u32,
}

impl Frames {
    /// Takes the next chunk of the body, and calls `seen` for each part of it.
    pub fn feed<'a>(&mut self, mut chunk: &'a [u8], mut seen: impl FnMut(Part<'a>)) {
        while !chunk.is_empty() {
            if self.missing > 0 {
                let take = chunk.len().min(self.missing as usize);
                let (data, rest) = chunk.split_at(take);
                seen(Part::Data(data));
                chunk = rest;
                self.missing -= take as u32;
            } else {
                let take = chunk.len().min(self.prefix.len() - self.have);
                let (data, rest) = chunk.split_at(take);
                self.prefix[self.have..self.have + take].copy_from_slice(data);
                self.have += take;
                chunk = rest;
                if self.have < self.prefix.len() {
                    return;
                }
                let [flag, length @ ..] = self.prefix;
                self.have = 0;
                self.length = u32::from_be_bytes(length);
                self.missing = self.length;
                seen(Part::Begin { flag, length: self.missing });
            }
            if self.missing == 0 {
                seen(Part::End);
            }
        }
    }

    /// Whether the last message that began is complete.
    pub fn is_whole(&self) -> bool {
        self.have == 0 && self.missing == 0
    }

    /// How many bytes of an incomplete message have arrived.
    pub fn partial(&self) -> u32 {
        if self.missing == 0 { 0 } else { self.length - self.missing }
    }

    /// Like [`feed`](Self::feed), but only returns how many messages begin in the
    /// chunk, and the length of the longest of them in bytes.
    pub fn begun(&mut self, mut chunk: &[u8]) -> (u64, u32) {
        let (mut count, mut longest) = (0, 0);
        if self.have == 0 {
            // Most messages are complete in the chunk: one step for each.
            while let Some(rest) = chunk.get(self.missing as usize..)
                && let Some(([_, length @ ..], rest)) = rest.split_first_chunk::<5>()
            {
                self.length = u32::from_be_bytes(*length);
                self.missing = self.length;
                (count, longest) = (count + 1, self.missing.max(longest));
                chunk = rest;
            }
        }
        self.feed(chunk, |part| {
            if let Part::Begin { length, .. } = part {
                (count, longest) = (count + 1, length.max(longest));
            }
        });
        (count, longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_whatever_the_chunks() {
        let body = [0, 0, 0, 0, 2, b'h', b'i', 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, b'a', b'b', b'c'];
        for size in 1..=body.len() {
            let mut frames = Frames::default();
            let mut messages = Vec::new();
            let mut ended = 0;
            for chunk in body.chunks(size) {
                frames.feed(chunk, |part| match part {
                    Part::Begin { flag, .. } => messages.push((flag, Vec::new())),
                    Part::Data(data) => messages.last_mut().unwrap().1.extend_from_slice(data),
                    Part::End => ended += 1,
                });
            }
            let expected = [(0, b"hi".to_vec()), (0, vec![]), (1, b"abc".to_vec())];
            assert_eq!(messages, expected, "in chunks of {size}");
            assert_eq!(ended, 3, "in chunks of {size}");
        }
    }

    #[test]
    fn a_message_that_is_not_complete_is_known() {
        let mut frames = Frames::default();
        for (chunk, partial) in
            [(&[0, 0, 0, 0][..], 0), (&[4], 0), (&[1, 2], 2), (&[3, 4], 0), (&[0, 0, 0, 0, 2, 1], 1)]
        {
            frames.begun(chunk);
            assert_eq!(frames.partial(), partial, "{chunk:?}");
            assert!(!frames.is_whole() || *chunk == [3, 4], "{chunk:?}");
        }
    }

    #[test]
    fn messages_are_counted_whatever_the_chunks() {
        let messages = [3_u32, 0, 300, 1, 0, 0, 70_000, 4, 5];
        let body: Vec<u8> = messages
            .iter()
            .flat_map(|length| [&[0][..], &length.to_be_bytes(), &vec![7; *length as usize]].concat())
            .collect();
        for size in (1..=20).chain([299, 300, 310, 4096, 70_000, body.len()]) {
            let mut frames = Frames::default();
            let mut begun: Vec<_> = body.chunks(size).map(|chunk| frames.begun(chunk)).collect();
            assert_eq!(begun.iter().map(|(count, _)| count).sum::<u64>(), 9, "in chunks of {size}");
            begun.retain(|(count, _)| *count > 0);
            let longest = begun.iter().map(|(_, longest)| longest).max();
            assert_eq!(longest, Some(&70_000), "in chunks of {size}");
            if size == 1 {
                assert_eq!(begun.iter().map(|(_, longest)| *longest).collect::<Vec<_>>(), messages);
            }
        }
    }
}
